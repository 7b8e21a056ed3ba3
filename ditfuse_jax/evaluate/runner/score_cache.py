"""Scores kept image by image, so that an interrupted evaluation continues where it stopped."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ditfuse_jax.evaluate import metrics
from ditfuse_jax.files import make_folder, write_text

MethodScores = dict[str, dict[str, float]]  # method -> metric -> value


class ScoreCache:
    """A folder with one file per scene: of each method its scores, and what they were made from.

    Scores count only for the same pixels and the same metric code; anything else is as if there
    were none.  JSON with Python's NaN and Infinity.
    """

    def __init__(self, folder: Path, preset: str = "canonical"):
        """Opens the folder, which is made with the first scores; `preset`: of `METRIC_PRESETS`."""
        self.folder = folder
        self.preset = preset
        self._code = _code_digest()

    def read(self, stem: str, fingerprints: Mapping[str, str]) -> MethodScores:
        """The scores of the methods whose fingerprints are still the same; see `fingerprint`."""
        try:
            kept = json.loads(self._file(stem).read_text(encoding="utf-8"))
            return {
                method: {metric: float(value) for metric, value in kept[method]["scores"].items()}
                for method, expected in fingerprints.items()
                if method in kept and kept[method]["fingerprint"] == expected
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}  # none yet, or not written by us

    def write(self, stem: str, fingerprints: Mapping[str, str], scores: MethodScores) -> None:
        """Keeps the scores of a scene, instead of those that were there.

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
        """Of what a score depends on."""
        text = f"{self._code} {self.preset} {scene_digest} {output_digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _file(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"


def _code_digest() -> str:
    """Of the metrics' source code: with another formula, old scores do not count."""
    files = sorted(Path(metrics.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
