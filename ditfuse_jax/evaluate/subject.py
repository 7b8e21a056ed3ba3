"""A model under examination: what it is, how it samples, where the findings go."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.sample.fuser import Fuser, sampling_settings
from ditfuse_jax.sample.trained import WeightedAdapter, load_trained
from ditfuse_jax.train.checkpoint import find_checkpoint, is_run
from ditfuse_jax.train.run_folder import package_versions


@dataclasses.dataclass(frozen=True)
class Subject:
    """Attributes:
    fuser: the model with its sampling settings.
    folder: where files go; made when the first is written.
    """

    fuser: Fuser
    folder: Path

    def facts(self, data: str) -> dict[str, Any]:
        """What it takes to repeat the examination on this data source."""
        settings = self.fuser.settings
        return {
            "checkpoint": self.fuser.trained.name,
            "data": data,
            "steps": settings.steps,
            "guidance": settings.guidance.text,
            "image guidance": settings.guidance.image,
            "seed": settings.seed,
            "versions": package_versions(),
        }

    def write(self, name: str, findings: Mapping[str, Any]) -> Path:
        """Writes findings as JSON; what is not finite becomes null.

        Raises:
          UserError: the folder cannot be written.
        """
        make_folder(self.folder)
        path = self.folder / name
        text = json.dumps(_plain(findings), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(path, text + "\n")
        return path


def open_subject(
    checkpoint: Path,
    output: Path | None,
    changes: Mapping[str, Any] | None,
    adapters: Sequence[WeightedAdapter],
    base: Path | None,
) -> Subject:
    """Loads a model; the arguments are those of `evaluate`.

    Raises:
      UserError: no model there, bad settings, or nowhere to write.
    """
    checkpoint = Path(checkpoint).expanduser()
    if output is None and not is_run(checkpoint):
        raise UserError(f"{checkpoint} is no run folder: say with --output where the report goes")
    folder = find_checkpoint(checkpoint)[0] if output is None else Path(output).expanduser()
    trained = load_trained(checkpoint, adapters, base)
    return Subject(Fuser(trained, sampling_settings(trained, changes or {})), folder)


def text_columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells for a terminal: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(value: float, decimals: int = 3) -> str:
    """A cell of a table; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
