"""A tiny trained model and images to fuse."""

from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.images import write_image

TINY = (
    "--config.model.hidden_size=32",
    "--config.model.num_layers=1",
    "--config.model.num_heads=2",
    "--config.model.num_kv_heads=2",
    "--config.model.intermediate_size=64",
    "--config.data.crop=(32, 32)",
    "--config.data.batch_size=2",
    "--config.train.steps=2",
    "--config.evaluations.held_out.every=0",
    "--config.evaluations.held_out.count=2",
    "--config.sample.steps=2",
)


@pytest.fixture(scope="session")
def tiny_overrides() -> list[str]:
    """Overrides that make the nano recipe tiny."""
    return list(TINY)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A run folder of `ditfuse train`."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "--config", "nano_m3", "--workdir", str(folder), *TINY]) == 0
    return folder


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """Two images of 37 x 53 pixels."""
    rng = np.random.default_rng(0)
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path in paths:
        write_image(path, rng.integers(0, 256, (37, 53, 3), dtype=np.uint8))
    return paths


@pytest.fixture
def stacks(tmp_path) -> Path:
    """A folder with image1/ and image2/, three scenes of different sizes."""
    folder = tmp_path / "stacks"
    rng = np.random.default_rng(1)
    for name, size in {"one": (32, 32), "two": (40, 24), "three": (32, 32)}.items():
        for side in ("image1", "image2"):
            (folder / side).mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            write_image(folder / side / f"{name}.png", image)
    return folder


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail with one line and exit code 2; returns the message."""

    def run(*options) -> str:
        capsys.readouterr()
        try:
            code = main([str(word) for word in options])
        except SystemExit as stop:
            code = stop.code
        message = capsys.readouterr().err
        assert code == 2, message
        # Nothing but a progress bar may precede it.
        *before, last = message.splitlines()
        assert not [line for line in before if line.strip() and "%|" not in line], message
        start = f"ditfuse {options[0]}: error: "
        assert last.startswith(start), message
        return last.removeprefix(start)

    return run
