"""Frames of a sequence, sampled with what was decided about those before."""

import dataclasses

import numpy as np
import pytest

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model import Condition
from ditfuse_jax.model.network import Network
from ditfuse_jax.sample.encoding_reuse import EncodingReuse
from ditfuse_jax.sample.sequence_sampler import SequenceSampler, decides_by_cells

SIZE = (64, 96)
TIMES = np.array([0, 0.5, 1], "f4")
GLOBAL = [(0, 0.5), (0.5, 1)]  # the steps of the downscaled frame


class Running:
    """A result that is complete when it becomes an array."""

    def __init__(self, tiles, values):
        self._tiles, self._values = tiles, values

    def __array__(self, dtype=None, copy=None):
        self._tiles.running -= 1
        return self._values


class Tiles:
    """Stands for `TiledSampler`, with the model replaced by means; counts what is computed."""

    tile = 32

    def __init__(self, config):
        self.structure = Network(config)
        self.decided, self.steps, self.corners = [], [], None
        self.together = []  # tiles whose sources were embedded with the whole frame's
        self.running = self.most = 0  # groups of tiles that are computed at the same time

    def groups(self, tiles, rows, on_cpu):
        assert on_cpu == 1
        self.corners = tiles.corners if tiles.size == SIZE else self.corners
        return list(tiles.corners[:, None])

    def encoded(self, parameters, condition, weights, reuse, size, group, groups, bias=None):
        if bias is not None:  # what is at the tile's place in the bias of the whole frame
            assert self.corners is not None  # of the whole frame's tiles
            at = self.corners[group] // 16
            np.testing.assert_array_equal(bias[0].reshape(2, 2, 2)[0, 0], at)
            self.together.append(group)
        return size, group

    def compiled(self, function, *, quick=True):
        del quick
        programs = {
            "decide": self.decide,
            "_compose": self.compose,
            "_step": self.step,
            "target_bias_by_rows": self.bias,
        }
        return programs[function.__name__]

    def bias(self, parameters, condition):
        assert condition.images.shape[-3:-1] == SIZE
        return np.moveaxis(np.indices((4, 6)), 0, -1).reshape(1, 24, 2)

    def decide(self, parameters, encoded, condition, x, t):
        size, group = encoded
        if size == SIZE:  # else it belongs to the global steps
            self.decided.append(group)
        images = condition.images[:, 0] + condition.images[:, 1]
        self.running += 1
        self.most = max(self.most, self.running)
        return Running(self, images.reshape(1, 8, 4, 8, 4, 3).mean((2, 4)))

    def compose(self, parameters, cells, sources):
        return (np.kron(cells, np.ones((4, 4, 1), "f4")) + sources[0])[None]

    def step(self, parameters, cells, sources, x, t, following):
        self.steps.append((float(t), float(following)))
        return sources[:1]


@pytest.fixture
def tiles(models):
    return Tiles(dataclasses.replace(models.PIXEL, patch_size=16, head="bands"))


def branches(images, token=1):
    tokens = np.full((1, 1, 4), token)
    return Condition(tokens, tokens > 0, images[None, None], np.ones((1, 1, 2), bool))


def picture(seed=0):
    small = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, 16, 24, 3))
    return np.kron(small, np.ones((1, 4, 4, 1))).astype("f4")  # 64 x 96


@pytest.fixture
def fuse(tiles):
    """Fuses frames one after the other; `fresh` holds the tiles that were decided of each."""
    sampler, reuse = SequenceSampler(tiles), EncodingReuse(100)
    noise = np.zeros((1, 64, 96, 3), "f4")

    def run(images, token=1):
        reuse.next_frame()
        tiles.decided.clear()
        tiles.together.clear()
        given = branches(images, token)
        assert sampler.fits(given)
        return sampler(None, given, noise, np.ones(1, "f4"), TIMES, reuse)

    return run


def test_the_first_frame_is_decided_in_all_tiles_and_blended_without_a_seam(tiles, fuse):
    found = fuse(picture())
    assert sorted(tiles.decided) == list(range(len(tiles.corners))) and tiles.steps == GLOBAL
    # Cells that agree where tiles overlap are unchanged by blending.
    expected = picture()[0] * 2 + picture()[1]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_sources_of_many_tiles_are_embedded_together_and_cut(tiles, fuse):
    fuse(picture())
    assert sorted(tiles.together) == list(range(len(tiles.corners)))


def test_at_most_four_groups_of_tiles_are_computed_at_the_same_time(tiles, fuse):
    fuse(picture())
    assert len(tiles.corners) > 4 and tiles.most == 4 and tiles.running == 0


def test_a_still_frame_is_decided_nowhere_and_is_the_same(tiles, fuse):
    first = fuse(picture())
    np.testing.assert_array_equal(fuse(picture()), first)
    assert not tiles.decided and tiles.steps == GLOBAL


def test_pixels_are_those_of_the_present_frame_where_nothing_is_decided(tiles, fuse):
    first = fuse(picture())
    checks = 0.01 * (np.indices((64, 96)).sum(0) % 2 * 2 - 1).astype("f4")
    found = fuse(picture() + checks[..., None])
    assert not tiles.decided
    np.testing.assert_allclose(found[0] - first[0], checks[..., None] + np.zeros(3), atol=1e-6)


def test_tiles_that_show_a_change_and_only_they_are_decided_again(tiles, fuse):
    fuse(picture())
    now = picture()
    now[1, 4:8, 4:8] += 0.5
    found = fuse(now)
    shown = [k for k, (row, column) in enumerate(tiles.corners) if row < 8 and column < 8]
    assert tiles.decided == shown == [0]
    assert not tiles.together
    np.testing.assert_allclose(found[0], now[0] * 2 + now[1], atol=1e-5)
    assert tiles.steps == GLOBAL * 2


def test_after_a_cut_all_is_computed_from_the_beginning(tiles, fuse):
    fuse(picture())
    fuse(-np.sign(picture()))
    assert sorted(tiles.decided) == list(range(len(tiles.corners))) and tiles.steps == GLOBAL * 2


def test_another_prompt_is_decided_at_once(tiles, fuse):
    fuse(picture())
    fuse(picture(), token=2)
    assert sorted(tiles.decided) == list(range(len(tiles.corners))) and tiles.steps == GLOBAL * 2


def test_settings_of_several_steps_at_full_size_or_with_guidance_do_not_fit(tiles):
    usual = SamplingConfig(
        steps=2, global_steps=1, tile=64, guidance_scale=1.0, image_guidance_scale=1.0
    )
    assert decides_by_cells(tiles.structure, usual)
    for other in (
        {"steps": 3},
        {"guidance_scale": 2.0},
        {"solver": "midpoint"},
    ):
        assert not decides_by_cells(tiles.structure, dataclasses.replace(usual, **other))
    linear = dataclasses.replace(tiles.structure.model, head="linear")
    assert not decides_by_cells(Network(linear), usual)


def test_frames_that_lack_an_image_do_not_fit(tiles):
    given = branches(picture())
    lacking = given._replace(image_valid=np.array([[[True, False]]]))
    assert not SequenceSampler(tiles).fits(lacking)
