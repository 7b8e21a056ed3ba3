"""How long a whole `ditfuse fuse` takes: the first one ever, and later ones with kept programs."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ditfuse_jax.bench.measurement import Measurement
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import CACHE_VARIABLE, PROGRAMS_VARIABLE
from ditfuse_jax.images import resize_image, write_image

if TYPE_CHECKING:
    from ditfuse_jax.train.settings import Recipe

_HEIGHT, _WIDTH = 480, 640


def bench_start(recipe: "Recipe", repeats: int) -> Measurement:
    """Fuses a 640x480 pair with the bundled model, each time in a process of its own.

    Facts: seconds, processor seconds and memory of the first process, which finds no kept programs;
    processor seconds and memory of the later ones; seconds to start Python and import JAX.
    """
    del recipe
    with tempfile.TemporaryDirectory(prefix="ditfuse-bench-") as name:
        folder = Path(name)
        pair = _write_pair(folder)
        command = ["-m", "ditfuse_jax", "fuse", *pair, "--task", "mff", "-o", str(folder / "f.png")]
        first = _run(command, folder)
        later = [_run(command, folder) for _ in range(repeats)]
        imports = [_run(["-c", "import jax"], folder) for _ in range(repeats)]
    return Measurement(
        seconds=[run["seconds"] for run in later],
        images=1,
        flops=0,
        facts={
            **{f"first_{key}": value for key, value in first.items()},
            "cpu_seconds": float(np.median([run["cpu_seconds"] for run in later])),
            "memory_mb": max(run["memory_mb"] for run in later),
            "import_jax_seconds": float(np.median([run["seconds"] for run in imports])),
        },
    )


def _write_pair(folder: Path) -> list[str]:
    """Writes two images of the same smooth random content; what they show changes no time."""
    rng = np.random.default_rng(0)
    paths = []
    for name, side in (("a", 4), ("b", 16)):
        small = rng.integers(0, 256, (_HEIGHT // side, _WIDTH // side, 3), dtype=np.uint8)
        paths.append(folder / f"{name}.png")
        write_image(paths[-1], resize_image(small, _HEIGHT, _WIDTH))
    return [str(path) for path in paths]


def _run(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Runs Python and returns its seconds, processor seconds and largest memory."""
    environment = os.environ | {
        CACHE_VARIABLE: str(folder / "xla"),
        PROGRAMS_VARIABLE: str(folder / "xla" / "programs"),
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if status:
        lines = message.strip().splitlines() or ["no message"]
        raise UserError(f"`python {' '.join(arguments)}` failed: {lines[-1]}")
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }
