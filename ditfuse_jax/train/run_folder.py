"""The folder of a run: config, versions, metrics, pictures, checkpoints."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.files import check_folder, write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.weights.run_paths import check_storage

_PACKAGES = ("ditfuse_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def package_versions() -> dict[str, str]:
    """Returns the installed versions of the packages that affect a run's numbers."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def describe_environment() -> dict[str, Any]:
    """Returns versions, machine, command and git commit, to repeat a run."""
    return {
        "versions": package_versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
        "command": sys.argv,
        "git_commit": _git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _git_commit() -> str | None:
    folder = str(Path(__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() or None


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path):
        self.path = as_path(path)
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"
        self.tensorboard = self.path / "tensorboard"

    def check_writable(self) -> None:
        """Creates the folder and checks that it is writable.

        Raises:
          UserError: it cannot be written, or is a file.
        """
        check_storage(self.path)
        check_folder(self.path)

    def begin(self, config_text: str, environment: Mapping[str, Any], step: int) -> None:
        """Records the start of a run, or its continuation at `step`.

        Metrics of later steps are removed, so that no step is recorded twice.

        Raises:
          UserError: the folder cannot be written.
        """
        write_text(self.path / "config.json", config_text)
        runs = self.path / "runs.jsonl"
        before = runs.read_text(encoding="utf-8") if runs.exists() else ""
        write_text(runs, before + json.dumps(environment) + "\n")
        if self.metrics.exists():
            lines = _complete_lines(self.metrics)
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            write_text(self.metrics, "".join(kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a `metrics.jsonl`, without an incomplete last line."""
    return [json.loads(line) for line in _complete_lines(path)] if path.exists() else []


def _complete_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]
