"""Photographs packed with moments: the numbers of the autoencoder, and what training sees."""

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.api import prepare
from ditfuse_jax.cli import main
from ditfuse_jax.convert.pack_moments import MomentsPacker
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.model.space import LatentSpace
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.prompts import TextSlots
from ditfuse_jax.train.step import model_inputs
from ditfuse_jax.weights import load_autoencoder

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        write_image(folder / f"{i}.png", rng.integers(0, 256, (60, 50, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def vae(official):
    return official.folder / "vae"


@pytest.fixture(scope="module")
def packed(photos, vae, tmp_path_factory):
    output = tmp_path_factory.mktemp("packed") / "latents"
    words = ["prepare", photos, "-o", output, "--autoencoder", vae, "--crop", "32,32"]
    assert main([str(word) for word in [*words, "--crops", "2"]]) == 0
    return output


def stream(source, task="m3"):
    encoder = ExampleEncoder(TextSlots(24, 12, 48))
    return DataPipeline([MixtureComponent(str(source), task)], (32, 32), 4, 0, encoder)


def test_each_photograph_gives_its_crops_and_their_posterior(packed, vae):
    source = PackedSource(packed)
    assert list(source.names) == ["0#0", "0#1", "1#0", "1#1", "2#0", "2#1"]
    loaded = load_autoencoder(vae)
    module = nnx.merge(loaded.graph, loaded.parameters)
    for k in range(6):
        (image,), moments = source.read(k)
        assert image.shape == (32, 32, 3)
        posterior = module.encode(image[None] / np.float32(127.5) - 1)
        expected = np.concatenate(posterior, axis=-1)[0]
        np.testing.assert_allclose(moments, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_training_sees_what_encoding_the_target_would_give(packed, vae):
    batch = next(stream(packed).batches())
    shape = PackedSource(packed).moments
    assert shape and batch["target_moments"].shape == (4, *shape)
    loaded = load_autoencoder(vae)
    space = LatentSpace(loaded.config, loaded.graph)
    noise = jax.random.normal(jax.random.key(0), (4, 3, *space.shape(32, 32)))
    short = dict(batch)
    del short["target_moments"]
    condition, target = model_inputs(batch, space, loaded.parameters, noise)
    expected_condition, expected = model_inputs(short, space, loaded.parameters, noise)
    np.testing.assert_allclose(target, expected, atol=1e-4)
    np.testing.assert_allclose(condition.images, expected_condition.images, atol=1e-4)


def test_a_name_that_is_not_utf8_has_crops_of_its_own(photos, vae):
    packer = MomentsPacker(vae, (32, 32))
    (one,), (other,) = (packer(name, [photos / "0.png"], ()) for name in ("caf\udce9", "caf"))
    assert one.name == "caf\udce9#0"
    assert one.images != other.images


def test_the_target_is_the_packed_crop_itself(packed):
    source = PackedSource(packed)
    crops = [source.read(k) for k in range(6)]
    batch = next(stream(packed).batches())
    for target, moments in zip(batch["target"], batch["target_moments"], strict=True):
        (match,) = [k for k, (images, _) in enumerate(crops) if (images[0] == target).all()]
        np.testing.assert_array_equal(moments, crops[match][1])


def test_a_model_on_pixels_refuses_moments(packed, tmp_path, capsys):
    source = f"--config.data.mixture.photos.source={packed}"
    words = ["--config", "nano_m3", source, "--config.data.crop=(32, 32)"]
    assert main(["train", "--workdir", str(tmp_path / "run"), *words]) == 2
    assert "moments of an autoencoder, but the model works on pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"crop": (30, 32)}, "crop .30, 32. cannot be encoded: both sides must be multiples of"),
        ({"crop": None}, "moments need the size of the crops"),
        ({"crop": (32, 32), "crops": 0}, "crops must be at least 1"),
        ({"crop": (32, 32), "processes": 2}, "one process"),
        ({"crop": (32, 32), "autoencoder": None}, "name its folder too"),
    ],
)
def test_invalid_options_are_refused(photos, vae, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        prepare(str(photos), tmp_path / "p", **{"autoencoder": vae, "quiet": True} | words)
    assert not (tmp_path / "p" / "manifest.json").exists()


def test_pairs_have_no_moments(vae, tmp_path):
    for side in (1, 2):
        (tmp_path / f"pairs/image{side}").mkdir(parents=True)
        write_image(tmp_path / f"pairs/image{side}/a.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(UserError, match="packed for photographs, not for stacks of 2 images"):
        prepare(str(tmp_path / "pairs"), tmp_path / "p", autoencoder=vae, crop=(32, 32), quiet=True)
