"""Scores on disk, image by image, so that an interrupted evaluation continues where it stopped."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.evaluate import metrics
from ditfuse_jax.evaluate.metrics import METRIC_PRESETS
from ditfuse_jax.evaluate.metrics.metric import TwoSteps
from ditfuse_jax.extensions import is_of_package, source_file, source_files
from ditfuse_jax.files import make_folder, write_text

MethodScores = dict[str, dict[str, float]]  # method -> metric -> value

_METRICS_FOLDER = Path(metrics.__file__).parent


class ScoreCache:
    """A folder with one JSON file per scene: the scores of each method and their fingerprint.

    Cached scores are used only for the same pixels, preset and metric code; others are ignored.
    The JSON has Python's NaN and Infinity.
    """

    def __init__(self, folder: Path, preset: str = "canonical", names: Sequence[str] = ()):
        """Opens the cache; the folder is created with the first scores.

        Args:
          folder: of the JSON files.
          preset: a key of `METRIC_PRESETS`.
          names: the metrics that are computed; the code of those that other modules define is part
            of the fingerprint, see `code_digest`.
        """
        self.folder = folder
        self.preset = preset
        self._code = code_digest(names, preset)

    def read(self, stem: str, fingerprints: Mapping[str, str]) -> MethodScores:
        """Returns the cached scores of the methods whose fingerprints have not changed."""
        try:
            kept = json.loads(self._file(stem).read_text(encoding="utf-8"))
            return {
                method: {metric: float(value) for metric, value in kept[method]["scores"].items()}
                for method, expected in fingerprints.items()
                if method in kept and kept[method]["fingerprint"] == expected
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}  # no scores yet, or a damaged file

    def write(self, stem: str, fingerprints: Mapping[str, str], scores: MethodScores) -> None:
        """Replaces the scores of a scene.

        Raises:
          UserError: the file cannot be written.
        """
        make_folder(self.folder)
        content = {
            method: {"fingerprint": fingerprints[method], "scores": values}
            for method, values in scores.items()
        }
        write_text(self._file(stem), json.dumps(content, indent=1) + "\n")

    def fingerprint(self, scene_digest: str, output_digest: str) -> str:
        """Returns a digest of everything that a score depends on."""
        text = f"{self._code} {self.preset} {scene_digest} {output_digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _file(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"


def code_digest(names: Sequence[str] = (), preset: str = "canonical") -> str:
    """Returns a digest of the metrics' source code, so that a changed formula voids old scores.

    It covers this package's metrics, and if one of `names`, as the preset computes them, is defined
    elsewhere, its file and all loaded extensions, which may hold parts of it.  Of code without a
    file, such as a notebook's, changes cannot be seen: each digest differs from all others.
    """
    used = [part for name in names for part in _parts(name, preset)]
    outside = [part for part in used if not is_of_package(part)]
    if any(source_file(part) is None for part in outside):
        return uuid.uuid4().hex
    files = {*_METRICS_FOLDER.glob("*.py"), *source_files(outside)}
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


def _parts(name: str, preset: str) -> list[Any]:
    """Returns the functions that compute a metric."""
    metric = METRIC_PRESETS.find(preset).metric(name)
    function = metric.function
    steps = [function.first, function.second] if isinstance(function, TwoSteps) else [function]
    return [*steps, metric.prepare] if metric.prepare else steps
