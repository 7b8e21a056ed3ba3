"""Large images sampled in tiles."""

import contextlib
import itertools
import logging
import re

import jax
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.flow import SOLVERS, Guidance, GuidanceRule, SamplingConfig, time_grid
from ditfuse_jax.model import Condition
from ditfuse_jax.sample.sampler import make_sampler, sample
from ditfuse_jax.sample.tiled import TiledSampler
from ditfuse_jax.sample.tiles import global_size, plan_tiles

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("exact_products")]

SIZES = [(64, 64), (64, 80), (160, 2048), (480, 640), (208, 112)]


@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_every_pixel_overlap_and_begin_at_patches(size):
    tiles = plan_tiles(size, 64, 16)
    for starts, side, tile in zip((tiles.rows, tiles.columns), size, tiles.tile, strict=True):
        assert starts[0] == 0 and starts[-1] + tile == side
        assert not any(start % 16 for start in starts)
        assert all(0 < step <= tile - 16 for step in np.diff(starts))


@pytest.mark.parametrize("size", SIZES)
def test_cutting_and_blending_gives_the_image_again(size):
    tiles = plan_tiles(size, 64, 16)
    image = np.random.default_rng(0).standard_normal((2, *size, 3)).astype("f4")
    parts = np.stack([tiles.cut(image, corner) for corner in tiles.corners])
    assert parts.shape == (len(tiles.rows) * len(tiles.columns), 2, *tiles.tile, 3)
    np.testing.assert_allclose(tiles.blend(parts), image, atol=1e-5)


def test_tiles_that_disagree_are_blended_without_a_step():
    """The blend of two tiles of different grey changes in small steps."""
    tiles = plan_tiles((64, 112), 64, 16)
    parts = np.stack([np.full((1, 64, 64, 1), grey, "f4") for grey in (-1.0, 1.0)])
    row = np.asarray(tiles.blend(parts))[0, 30, :, 0]
    assert row[0] == -1 and row[-1] == 1
    assert np.diff(row).min() >= -1e-6
    assert np.diff(row).max() < 2.5 * 2 / (112 - 2 * 48)


@pytest.fixture(scope="module")
def large(models):
    """A model, conditions (R = 3, B = 2) of 9 x 7 patches, noise, weights of the branches."""
    config = models.PIXEL
    grid = (9, 7)
    full = models.condition(config, batch=2, grid=grid)
    without_text = full._replace(token_valid=np.zeros_like(full.token_valid) | (np.arange(14) < 2))
    alone = without_text._replace(image_valid=np.zeros_like(full.image_valid))
    parts = (full, without_text, alone)
    branches = Condition(*(np.stack(leaves) for leaves in zip(*parts, strict=True)))
    noise = np.random.default_rng(5).standard_normal((2, *models.image_shape(config, grid)))
    weights = Guidance(2.0, 1.6).weights
    return (
        models.build(config),
        branches,
        noise.astype("f4"),
        np.array([weights[name] for name in ("cond", "img", "neg")], "f4"),
    )


@pytest.fixture
def run(large):
    """Samples in tiles of 16: (global_steps, branches, noise, times) to an image."""
    model, branches, noise, weights = large
    graph, parameters = nnx.split(model)
    samplers = {name: TiledSampler(graph, 16, SOLVERS[name]) for name in ("euler", "heun")}

    def run(times, global_steps=0, branches=branches, noise=noise, solver="euler"):
        sampler = samplers[solver]
        return np.asarray(sampler(parameters, branches, noise, weights, times, global_steps))

    return run


def test_every_step_blends_the_velocities_of_the_tiles(large, models, run):
    """Compared with a loop over steps and tiles, each sampled on its own for one step."""
    model, branches, noise, weights = large
    side, times = 16, np.asarray(time_grid(2))
    graph, parameters = nnx.split(model)
    found = run(times)

    tiles = plan_tiles(noise.shape[1:3], side, model.config.patch_size)
    assert len(tiles.corners) == 6
    one = models.jit(
        lambda parameters, *rest: sample(nnx.merge(graph, parameters), *rest, SOLVERS["euler"])
    )
    x = noise
    for begin, end in itertools.pairwise(times):
        moved = []
        for corner in tiles.corners:
            there = branches._replace(images=tiles.cut(branches.images, corner))
            start = tiles.cut(x, corner)
            moved.append(one(parameters, there, start, weights, np.array([begin, end])))
        x = np.asarray(tiles.blend(np.stack(moved)))
    np.testing.assert_allclose(found, x, atol=2e-4 * np.abs(x).max())


def test_a_solver_of_second_order_works_on_the_blended_velocity(large, run):
    noise = large[2]
    times = np.array([0, 0.5, 1], "f4")

    def velocity(x, t):
        return (run(np.array([t, t + 0.25], "f4"), noise=x) - x) / 0.25

    first = velocity(noise, 0.0)
    second = velocity(noise + 0.5 * first, 0.5)
    middle = noise + 0.25 * (first + second)
    expected = run(times[1:], noise=middle)
    found = run(times, solver="heun")
    np.testing.assert_allclose(found, expected, atol=5e-4 * np.abs(expected).max())


@pytest.mark.parametrize("together", [1, 4, 8])
def test_the_number_of_tiles_per_group_changes_nothing(run, monkeypatch, together):
    times = np.asarray(time_grid(1))
    usual = run(times)
    monkeypatch.setattr("ditfuse_jax.sample.tiled._TILES_PER_GROUP_CPU", together)
    np.testing.assert_allclose(run(times), usual, atol=1e-4 * np.abs(usual).max())


def test_tiles_are_encoded_at_every_step_if_the_cache_is_too_small(run, monkeypatch):
    times = np.asarray(time_grid(2))
    kept = run(times)
    monkeypatch.setattr("ditfuse_jax.sample.tiled._MAX_CACHED_BYTES", 0)
    np.testing.assert_allclose(run(times), kept, atol=1e-4 * np.abs(kept).max())


def test_an_image_of_another_size_compiles_nothing(large, run):
    _, branches, noise, _ = large
    times, compiled = np.asarray(time_grid(1)), []
    time_grid(3)  # compiles for the number of steps
    with jax.log_compiles(), _listening(compiled):
        run(times, global_steps=0)
        assert set(compiled) >= {"run"}  # one encodes, one computes the velocity
        del compiled[:]
        narrow = branches._replace(images=branches.images[:, :, :, :, :20])
        run(times, branches=narrow, noise=noise[:, :, :20])
        run(np.asarray(time_grid(3)), global_steps=1, branches=narrow, noise=noise[:, :, :20])
    assert not compiled


@contextlib.contextmanager
def _listening(names):
    """Adds the name of every function that JAX compiles to `names`."""

    class Names(logging.Handler):
        def emit(self, record):
            found = re.search(r"Compiling (?:jit\()?(\w+)", record.getMessage())
            if found:
                names.append(found[1])

    logger, handler = logging.getLogger("jax"), Names()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_an_image_no_larger_than_a_tile_is_sampled_as_a_whole(large):
    model, branches, noise, weights = large
    graph, parameters = nnx.split(model)

    def run(tile):
        sampler = make_sampler(graph, SamplingConfig(steps=1, tile=tile))
        return sampler(parameters, branches, noise, weights)

    np.testing.assert_array_equal(run(64), run(0))


def test_global_steps_work_at_one_tile_s_size_and_keep_the_aspect_ratio():
    assert global_size((480, 640), 160, 16) == (160, 208)
    assert global_size((2048, 1024), 160, 16) == (320, 160)
    assert global_size((160, 2048), 160, 16) == (160, 2048)
    assert global_size((96, 64), 160, 16) == (96, 64)


def test_after_global_steps_sampling_continues_from_the_enlarged_result(large, run):
    """Compared with the same by hand: all steps downscaled, noise mixed in, the rest in tiles."""
    model, branches, noise, _ = large
    side, times = 16, np.asarray(time_grid(3))
    height, width = noise.shape[1:3]
    small = global_size((height, width), side, model.config.patch_size)
    assert small == (20, 16)
    images = branches.images
    downscaled = jax.image.resize(images, (*images.shape[:3], *small, 3), "linear")
    start = noise[:, : small[0], : small[1]]
    x = run(times, branches=branches._replace(images=downscaled), noise=start)
    x = jax.image.resize(x, noise.shape, "linear")
    x = np.asarray(times[1] * x + (1 - times[1]) * noise)
    expected = run(times[1:], noise=x)
    found = run(times, global_steps=1)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
    assert np.abs(found - run(times)).max() > 1e-3


def test_an_image_as_wide_as_a_tile_takes_no_global_steps(large, run):
    _, branches, noise, _ = large
    times = np.asarray(time_grid(2))
    narrow = {"branches": branches._replace(images=branches.images[:, :, :, :, :16])}
    narrow["noise"] = noise[:, :, :16]
    np.testing.assert_array_equal(run(times, 1, **narrow), run(times, 0, **narrow))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_single_tile_gives_what_the_plain_sampler_gives_with_every_solver_and_rule(large, solver):
    """The plain sampler scans over the steps, the other one loops over them."""
    model, branches, noise, weights = large
    graph, parameters = nnx.split(model)
    config = {"steps": 4, "shift": 2.0, "solver": solver}
    settings = {"apg_momentum": -0.5, "apg_eta": 0.3, "apg_threshold": 0.5}
    settings |= {"guidance_rescale": 0.5, "guidance_interval": (0.0, 0.6)}
    found = []
    for rule in ({}, settings):
        sampling = SamplingConfig(**config, **rule)
        whole = make_sampler(graph, sampling)(parameters, branches, noise, weights)
        sampler = TiledSampler(graph, 64, SOLVERS[solver], rule=sampling.guidance.rule)
        times = np.asarray(time_grid(4, 2.0))
        in_tiles = sampler(parameters, branches, noise, weights, times)
        np.testing.assert_allclose(in_tiles, whole, atol=5e-4 * np.abs(whole).max())
        found.append(np.asarray(whole))
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_the_guidance_rule_sees_the_whole_image_and_not_single_tiles(large, run):
    """The threshold bounds the change of the whole image by guidance in one step from noise."""
    model, branches, noise, weights = large
    graph, parameters = nnx.split(model)
    times, threshold = np.asarray(time_grid(1)), 1e-3
    sampler = TiledSampler(graph, 16, SOLVERS["euler"], rule=GuidanceRule(threshold=threshold))
    limited = np.asarray(sampler(parameters, branches, noise, weights, times))
    cond = branches._replace(**{k: v[:1] for k, v in branches._asdict().items()})
    alone = np.asarray(sampler(parameters, cond, noise, weights[:1] * 0 + 1, times))
    change = np.sqrt(((limited - alone) ** 2).mean((1, 2, 3)))
    bound = threshold * np.abs(weights[1:]).sum()
    assert (change <= bound * 1.01).all() and (change > 0.1 * bound).all()


@pytest.mark.parametrize(("rule", "tokens"), [("sd3", 16), ("flux", 16)])
def test_the_shift_of_tiles_is_that_of_one_tile_s_tokens(large, monkeypatch, rule, tokens):
    model, branches, noise, weights = large
    graph, parameters = nnx.split(model)
    patch, seen = model.config.patch_size, []
    side = 4 * patch  # 4 x 4 tokens
    monkeypatch.setattr("ditfuse_jax.flow.sampling_config._SMALLEST_TILE", side)

    def record(self, parameters, branches, noise, weights, times, global_steps):
        seen.append(times)
        return noise

    monkeypatch.setattr(TiledSampler, "__call__", record)
    assert min(noise.shape[1:3]) >= side
    sampling = SamplingConfig(steps=5, tile=side, shift_rule=rule)
    make_sampler(graph, sampling)(parameters, branches, noise, weights)
    np.testing.assert_allclose(seen[0], sampling.time_grid(tokens), atol=1e-7)
