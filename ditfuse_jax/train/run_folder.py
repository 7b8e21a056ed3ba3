"""The folder of a run: config, versions, metrics, pictures, checkpoints."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.files import check_folder, write_bytes, write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.train.run_lock import RunLock
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
    """Paths and files of one run.

    Attributes:
      lock: held while a training writes to the folder.
      step: that the training started from.
    """

    def __init__(self, path: Path):
        self.path = as_path(path)
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"
        self.tensorboard = self.path / "tensorboard"
        self.lock: RunLock | None = None
        self.step = 0

    @property
    def start(self) -> int:
        """The number of the training's start, 0 without a lock: later ones have larger numbers."""
        return self.lock.number if self.lock else 0

    def is_owned(self) -> bool:
        """Returns whether no other process is known to have taken the folder over."""
        return self.lock is None or not self.lock.lost

    def check_owned(self) -> None:
        """Checks that the folder is still this process's; call it before writing there.

        Raises:
          UserError: another process took over.
        """
        if self.lock:
            self.lock.check()

    def check_writable(self) -> None:
        """Creates the folder and checks that it is writable.

        Raises:
          UserError: it cannot be written, or is a file.
        """
        check_storage(self.path)
        check_folder(self.path)

    def earlier_config(self) -> dict[str, Any] | None:
        """Returns the config of the last start; None if there is none that can be read."""
        try:
            config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return config if isinstance(config, dict) else None

    def begin(self, config_text: str, environment: Mapping[str, Any]) -> None:
        """Records the start of a run, or its continuation.

        Args:
          config_text: for `config.json`.
          environment: a JSON object for another line of `runs.jsonl`.

        Raises:
          UserError: the folder cannot be written.
        """
        write_text(self.path / "config.json", config_text)
        runs = self.path / "runs.jsonl"
        before = runs.read_bytes() if runs.exists() else b""
        write_bytes(runs, before + json.dumps(environment).encode() + b"\n")

    def writer_id(self, writer: str, create: Callable[[], str]) -> str:
        """Returns a writer's name for this run in its service, the same in all starts.

        Args:
          writer: its name in `WRITERS`.
          create: returns a new one, for the first start.

        Raises:
          UserError: the folder cannot be written.
        """
        path = self.path / f"{writer}_run_id"
        if path.exists():
            return path.read_text(encoding="utf-8").strip()
        created = create()
        write_text(path, f"{created}\n")
        return created
