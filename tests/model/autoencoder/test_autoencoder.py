"""The autoencoder: parity with diffusers, and strips of rows that equal the whole image."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from ditfuse_jax.convert.reference import channels_last
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.autoencoder import AutoencoderConfig
from ditfuse_jax.weights.autoencoder import abstract_autoencoder, load_autoencoder

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]

TOLERANCE = 1e-5

SDXL = AutoencoderConfig()
SMALL = AutoencoderConfig(block_channels=(8, 16, 16), layers_per_block=1, norm_groups=4)


@pytest.fixture(scope="module")
def tiny(official):
    return load_autoencoder(official.folder / "vae")


@pytest.fixture(scope="module")
def golden(official):
    numbers = load_file(official.folder / "vae" / "golden.safetensors")
    return {name: channels_last(value) for name, value in numbers.items()}


def apply(loaded, method, x, **options):
    run = jax.jit(lambda p, x: getattr(nnx.merge(loaded.graph, p), method)(x, **options))
    return run(loaded.parameters, x)


def relative_error(ours, expected):
    return float(jnp.abs(ours - expected).max() / jnp.abs(expected).max())


@pytest.mark.parametrize("strip_rows", [None, 16])
def test_moments_and_images_equal_those_of_diffusers(tiny, golden, strip_rows):
    posterior = apply(tiny, "encode", golden["image"], strip_rows=strip_rows)
    decoded = apply(tiny, "decode", golden["latents"], strip_rows=strip_rows)
    assert relative_error(posterior.mean, golden["mean"]) < TOLERANCE
    assert relative_error(posterior.log_variance, golden["logvar"]) < TOLERANCE
    assert relative_error(decoded, golden["decoded"]) < TOLERANCE


def test_an_image_does_not_depend_on_the_rest_of_the_batch(tiny, golden):
    whole = apply(tiny, "decode", golden["latents"])
    alone = apply(tiny, "decode", golden["latents"][1:])
    np.testing.assert_allclose(whole[1:], alone, atol=1e-4)


def test_sdxl_s_autoencoder_has_the_published_number_of_parameters():
    _, shapes = abstract_autoencoder(SDXL)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 83_653_863
    assert SDXL.downsampling == 8


@dataclasses.dataclass
class Random:
    """A random autoencoder whose activations have magnitude about 1 everywhere."""

    graph: nnx.GraphDef
    parameters: dict


@functools.cache
def random_autoencoder(config, dtype="float32"):
    graph, shapes = abstract_autoencoder(config, dtype)
    random = np.random.default_rng(0)

    def draw(path, x):
        noise = random.standard_normal(x.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return noise / np.sqrt(np.prod(x.shape[:-1]))
        return 0.1 * noise + (path[-1].key == "scale")

    return Random(graph, jax.tree_util.tree_map_with_path(draw, shapes))


# 40 rows are not divisible into strips of 32, so the strips are smaller.
@pytest.mark.parametrize(("size", "strip_rows"), [((32, 24), 8), ((40, 16), 32)])
def test_strips_give_the_same_numbers_as_the_whole_image(size, strip_rows):
    loaded = random_autoencoder(SMALL)
    images = jax.random.uniform(jax.random.key(2), (2, *size, 3), minval=-1, maxval=1)
    whole = apply(loaded, "encode", images)
    strips = apply(loaded, "encode", images, strip_rows=strip_rows)
    assert relative_error(strips.mean, whole.mean) < TOLERANCE
    assert relative_error(strips.log_variance, whole.log_variance) < TOLERANCE
    pixels = apply(loaded, "decode", whole.mean)
    assert relative_error(apply(loaded, "decode", whole.mean, strip_rows=strip_rows), pixels) < (
        TOLERANCE
    )


def test_sides_that_are_not_multiples_of_the_downsampling_are_refused():
    loaded = random_autoencoder(SMALL)
    with pytest.raises(UserError, match="30x32 pixels: both sides must be multiples of 4"):
        apply(loaded, "encode", jnp.zeros((1, 32, 30, 3)))


@pytest.mark.slow
def test_a_photograph_has_no_seams_at_512_pixels():
    """The largest difference to the whole image is below 0.01 of 255."""
    skimage = pytest.importorskip("skimage.data", reason="needs the sample photographs")
    loaded = random_autoencoder(SMALL)
    image = jnp.asarray(skimage.astronaut()[None] / 127.5 - 1, jnp.float32)
    whole = apply(loaded, "encode", image, strip_rows=512)
    strips = apply(loaded, "encode", image, strip_rows=64)
    assert relative_error(strips.mean, whole.mean) < TOLERANCE
    pixels = apply(loaded, "decode", whole.mean, strip_rows=512)
    scale = 127.5 / float(jnp.abs(pixels).max())  # random weights do not give values in [-1, 1]
    difference = apply(loaded, "decode", whole.mean, strip_rows=64) - pixels
    assert float(jnp.abs(difference).max()) * scale < 0.01


@pytest.mark.slow
def test_large_images_are_processed_in_strips_and_need_less_memory():
    # Most memory is needed at the full resolution, as in SDXL.
    config = AutoencoderConfig(block_channels=(32, 32, 32, 32), layers_per_block=1, norm_groups=4)
    loaded = random_autoencoder(config)
    latents = jax.ShapeDtypeStruct((1, 128, 128, 4), jnp.float32)  # 1024 pixels

    def memory(**options):
        run = jax.jit(lambda p, x: nnx.merge(loaded.graph, p).decode(x, **options))
        compiled = run.lower(loaded.parameters, latents).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert memory() == memory(strip_rows=64)
    assert memory() < 0.6 * memory(strip_rows=1024)


def test_bfloat16_gives_similar_moments_in_float32():
    images = jax.random.uniform(jax.random.key(2), (1, 32, 32, 3), minval=-1, maxval=1)
    full, half = (
        apply(random_autoencoder(SMALL, dtype), "encode", images)
        for dtype in ("float32", "bfloat16")
    )
    assert half.mean.dtype == half.log_variance.dtype == jnp.float32
    assert relative_error(half.mean, full.mean) < 0.1


def test_attention_over_many_queries_in_pieces_equals_the_formula():
    from ditfuse_jax.model.autoencoder import layers

    attention = layers.Attention(8, 4, rngs=nnx.Rngs(0), dtype="float32")
    x = jax.random.normal(jax.random.key(0), (2, 60, 50, 8))  # 3000 positions, 1024 at a time
    scores = 3000
    assert scores > layers._QUERIES
    cut = attention(x)
    tokens = attention.group_norm(x).reshape(2, 3000, 8)
    q, k, v = (p(tokens) for p in (attention.to_q, attention.to_k, attention.to_v))
    weights = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", q, k) / np.sqrt(8), axis=-1)
    whole = x + attention.to_out(jnp.einsum("bqk,bkc->bqc", weights, v)).reshape(x.shape)
    np.testing.assert_allclose(cut, whole, atol=1e-5)
