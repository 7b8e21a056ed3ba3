"""One range for all files of a source."""

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import LoadedImage, SourceRanges, ValueRange, read_stack, write_image
from ditfuse_jax.images.samples import Samples

STATIC = np.s_[20:, 20:]


@pytest.fixture
def sequence(tmp_path):
    """Four stacks of an 8-bit and a thermal frame; a hot object is in the last two."""
    rng = np.random.default_rng(0)
    frame = (7300 + 300 * rng.random((64, 96))).astype(np.uint16)
    stacks = []
    for number in range(4):
        frames = frame.copy()
        if number > 1:
            frames[:12, :14] = 12000
        stacks.append((tmp_path / f"v{number}.png", tmp_path / f"t{number}.png"))
        write_image(stacks[-1][0], np.full((64, 96, 3), 7, np.uint8))
        cv2.imwrite(str(stacks[-1][1]), frames)
    return stacks


def test_frames_of_a_sequence_share_a_range(sequence):
    ranges = SourceRanges(sequence, quiet=True)
    frames = [read_stack(stack, ranges=ranges)[1] for stack in sequence]
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame[STATIC], frames[0][STATIC])
    assert list(ranges.chosen) == [1]


def test_each_range_is_told_once(sequence, capsys):
    ranges = SourceRanges(sequence)
    for stack in sequence:
        read_stack(stack, ranges=ranges)
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and str(sequence[0][1].parent) in said[0]


def test_eight_bit_files_have_no_range_and_are_not_measured(sequence, monkeypatch):
    ranges = SourceRanges([stack[:1] for stack in sequence])
    for stack in sequence:
        assert (ranges.read(stack[0], 0) == 7).all()
    assert not ranges.chosen


def test_each_source_can_have_a_range_of_its_own(sequence):
    files = [(stack[1], stack[1]) for stack in sequence]
    ranges = SourceRanges(files, ["full", (7300, 7600)], quiet=True)
    full, stretched = read_stack(files[0], ranges=ranges)
    assert full.max() < 30 and stretched.max() > 250
    with pytest.raises(UserError, match="3 ranges for 2 sources"):
        SourceRanges(files, ["full"] * 3)


def test_exposures_of_one_camera_share_a_range(tmp_path):
    dark, bright = tmp_path / "dark.png", tmp_path / "bright.png"
    light = np.linspace(0, 4000, 64 * 64).reshape(64, 64)
    cv2.imwrite(str(bright), light.astype(np.uint16))
    cv2.imwrite(str(dark), (light / 16).astype(np.uint16))
    shared = SourceRanges([(dark, bright)], one_camera=True, quiet=True)
    a, b = read_stack((dark, bright), ranges=shared)
    assert a.mean() < b.mean() / 8
    a, b = read_stack((dark, bright))
    assert abs(a.mean() - b.mean()) < 10  # of two cameras each has its own


def test_a_damaged_file_is_named_when_it_is_read_itself(sequence):
    sequence[2][1].write_bytes(b"no image")
    ranges = SourceRanges(sequence, quiet=True)
    read_stack(sequence[0], ranges=ranges)
    with pytest.raises(UserError, match=r"t2\.png"):
        read_stack(sequence[2], ranges=ranges)


def test_a_file_without_a_finite_pixel_is_named_and_stops_no_other(sequence):
    stacks = [(sequence[k][0], sequence[k][1].with_suffix(".tif")) for k in (0, 1)]
    cv2.imwrite(str(stacks[0][1]), np.full((64, 96), np.nan, np.float32))
    cv2.imwrite(str(stacks[1][1]), np.linspace(0, 1, 64 * 96, dtype=np.float32).reshape(64, 96))
    ranges = SourceRanges(stacks, quiet=True)
    assert ranges.read(stacks[1][1], 1)[-1, -1, 0] > 250
    with pytest.raises(UserError, match=r"t0\.tif: no pixel is a finite number"):
        ranges.read(stacks[0][1], 1)


@pytest.mark.parametrize("depth, dtype", [(8, np.uint8), (16, np.uint16), (None, np.uint16)])
def test_the_depth_can_be_chosen(sequence, depth, dtype):
    thermal = SourceRanges(sequence, quiet=True).read(sequence[0][1], 1, depth)
    assert thermal.dtype == dtype and thermal.shape == (64, 96, 3)


def test_a_given_range_needs_no_measured_image():
    image = LoadedImage(Samples(np.full((4, 4), 8000, np.uint16)), "x.png")
    given = SourceRanges([("a", "b")], "7000,9000", measured={}, quiet=True)
    assert given.read(image, 1)[0, 0, 0] in (127, 128)
    assert given.chosen[1] == ValueRange(7000, 9000)
    with pytest.raises(UserError, match=r"x.png: has more than 8 bits .*--range LOW,HIGH"):
        SourceRanges([("a", "b")], measured={}, quiet=True).read(image, 1)
