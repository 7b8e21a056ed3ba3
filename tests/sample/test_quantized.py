"""The bundled model with kernels in 8 and 4 bits."""

import numpy as np
import pytest

from ditfuse_jax import Fuser
from ditfuse_jax.cli import main
from ditfuse_jax.degrade import focus_pair
from ditfuse_jax.images import read_image, read_metadata, write_image
from ditfuse_jax.pipeline import open_source

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def pair():
    """Two differently focused photographs of 128 x 160 pixels: the plain model cuts no tiles."""
    source = open_source("samples:heldout")
    image = source[list(source.names).index("chelsea")][0][40:168, 110:270]
    pair = focus_pair(np.ascontiguousarray(image), np.random.default_rng(3))
    return pair.near, pair.far


def decibels(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.fixture(scope="module")
def plain(pair):
    return Fuser.load("small")(*pair, task="mff")


@pytest.mark.parametrize(("name", "at_least"), [("int8", 40), ("nf4", 30)])
def test_a_quantised_fusion_is_close_to_the_plain_one(pair, plain, name, at_least):
    fused = Fuser.load("small", quantize=name)(*pair, task="mff")
    assert at_least < decibels(fused.image, plain.image) < 100


@pytest.mark.parametrize("name", ["int8"])
def test_the_command_gives_the_pixels_of_the_call_and_records_the_scheme(pair, tmp_path, name):
    files = [tmp_path / "near.png", tmp_path / "far.png"]
    for path, image in zip(files, pair, strict=True):
        write_image(path, image)
    fuser = Fuser.load("small", quantize=name, steps=1)
    written = tmp_path / "fused.png"
    words = [*map(str, files), "-o", str(written), "--quantize", name, "--steps", "1"]
    assert main(["fuse", *words]) == 0
    np.testing.assert_array_equal(read_image(written), fuser(*files).image)
    assert "int8" in read_metadata(written)["checkpoint"]


def test_an_unknown_scheme_is_refused_before_anything_is_written(pair, tmp_path, capsys):
    files = [tmp_path / "near.png", tmp_path / "far.png"]
    for path, image in zip(files, pair, strict=True):
        write_image(path, image)
    words = [*map(str, files), "-o", str(tmp_path / "fused.png"), "--quantize", "int3"]
    assert main(["fuse", *words]) == 2
    assert "quantization 'int3' is unknown; choose from int8, nf4" in capsys.readouterr().err
    assert not (tmp_path / "fused.png").exists()
