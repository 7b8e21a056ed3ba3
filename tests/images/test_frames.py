"""Sources of frames, and which frames belong together."""

import dataclasses
import os
from fractions import Fraction

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import SourceRanges, ValueRange, write_image
from ditfuse_jax.images.frames import (
    FrameSource,
    measure_frames,
    open_sources,
    pair_frames,
    read_pairs,
)
from ditfuse_jax.images.video import VideoInfo


def folder(path, names, value=0):
    path.mkdir()
    for k, name in enumerate(names):
        write_image(path / f"{name}.png", np.full((4, 4, 3), value + k, np.uint8))
    return path


def video(name, count, rate, times=None, cut_off=None):
    """A source that nothing is read from."""
    times = np.arange(count) if times is None else np.asarray(times)
    base = 1 / Fraction(rate) if len(times) == count and times[-1] == count - 1 else Fraction(1)
    info = VideoInfo(
        *(name, (4, 4), Fraction(rate), times, times, base, False, False, {}, Fraction(1), cut_off)
    )
    return FrameSource(name, count, Fraction(rate), video=info)


def test_numbers_in_names_count(tmp_path):
    names = ["f10", "f9", "f1", "f100"]
    sources = open_sources([folder(tmp_path / "a", names), folder(tmp_path / "b", names)], 25)
    for source in sources:
        assert [path.stem for path in source.files] == ["f1", "f9", "f10", "f100"]
        assert source.rate == 25
    pairs = list(read_pairs(sources, pair_frames(sources)))
    assert [int(first.samples.values[0, 0, 0]) for first, _ in pairs] == [2, 1, 0, 3]


def test_folders_pair_by_name(tmp_path):
    paths = [folder(tmp_path / "a", ["1", "2"]), folder(tmp_path / "b", ["1", "3"])]
    with pytest.raises(UserError, match=r"a: no image named 3"):
        open_sources(paths)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("x.png", "x.png is an image: give videos"),
        ("x.txt", "x.txt is of another kind"),
        ("none", "none: no such file"),
    ],
)
def test_what_is_no_sequence_is_refused(tmp_path, name, line):
    if name != "none":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=line):
        open_sources([tmp_path / name, tmp_path])


def test_a_folder_that_is_named_twice_is_refused(tmp_path):
    path = folder(tmp_path / "a", ["1"])
    with pytest.raises(UserError, match=r"a is named twice: name a folder for each source"):
        open_sources([path, path])
    (tmp_path / "b").symlink_to(path)
    with pytest.raises(UserError, match=r"a and .*b are one folder: name a folder for each"):
        open_sources([path, tmp_path / "b"])


def test_a_frame_that_is_a_link_to_nothing_or_a_pipe_does_not_move_those_after_it(tmp_path):
    path = folder(tmp_path / "a", ["1", "3"])
    (path / "2.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"2\.png: is a link to nothing: restore this frame"):
        open_sources([path])
    (path / "2.png").unlink()
    os.mkfifo(path / "2.png")
    with pytest.raises(UserError, match=r"2\.png: is a pipe or a device: restore this frame"):
        open_sources([path])


def test_what_a_folder_holds_besides_its_frames_is_told_in_one_line(tmp_path):
    path = folder(tmp_path / "a", ["1"])
    (path / "2.png.part").write_bytes(b"")
    (path / "no\ntes.txt").write_bytes(b"")
    (path / ".hidden").write_bytes(b"")
    (path / "raw").mkdir()
    pairs = pair_frames(open_sources([path]))
    assert pairs.notes == (
        f"left out: 2 files, 1 folder (2.png.part, no\\ntes.txt, raw) of {path}",
    )


def test_equal_numbers_and_rates_pair_one_by_one():
    pairs = pair_frames([video("a", 5, 25), video("b", 5, 25)])
    assert pairs.count == 5 and not pairs.notes
    np.testing.assert_array_equal(pairs.numbers[1], range(5))


def test_other_numbers_and_rates_are_refused_with_the_way_out():
    with pytest.raises(UserError, match=r"a has 5 frames and b 7: --pairing shortest .* time"):
        pair_frames([video("a", 5, 25), video("b", 7, 25)])
    with pytest.raises(UserError, match=r"a has 30 frames per second and b 25: --pairing time"):
        pair_frames([video("a", 5, 30), video("b", 5, 25)])
    with pytest.raises(UserError, match=r"b: is cut off: it has 5 frames .* of the 9.0 s"):
        pair_frames([video("a", 5, 1), video("b", 5, 1, cut_off=9.0)])
    with pytest.raises(UserError, match="'frame' is not one of number, shortest, time"):
        pair_frames([video("a", 5, 1), video("b", 5, 1)], "frame")


def test_the_shortest_ends_the_sequence_and_the_surplus_is_told():
    pairs = pair_frames([video("a", 5, 25), video("b", 7, 25), video("c", 5, 25)], "shortest")
    assert pairs.count == 5
    assert pairs.notes == ("left out: the last 2 of 7 frames of b",)


def test_pairing_by_time_takes_the_nearest_frame():
    pairs = pair_frames([video("a", 12, 30), video("b", 4, 10)], "time")
    np.testing.assert_array_equal(pairs.numbers[0], range(12))
    np.testing.assert_array_equal(pairs.numbers[1], [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    assert pairs.notes == ("b: 4 of 4 frames are used, paired by time, each 3 times",)


def test_pairing_by_time_ends_with_the_shortest_and_drops_frames_of_the_faster():
    pairs = pair_frames([video("a", 10, 10), video("b", 12, 20)], "time")
    np.testing.assert_array_equal(pairs.numbers[0], range(6))
    np.testing.assert_array_equal(pairs.numbers[1], [0, 2, 4, 6, 8, 10])
    assert pairs.notes == (
        "left out: the last 4 of 10 frames of a, after the end of another source",
        "b: 6 of 12 frames are used, paired by time",
    )


def test_uneven_times_pair_with_the_nearest():
    pairs = pair_frames([video("a", 4, 1, [0, 1, 2, 3]), video("b", 3, 1, [0, 2, 3])], "time")
    np.testing.assert_array_equal(pairs.numbers[1], [0, 0, 1, 2])


def test_pairing_folders_by_time_needs_their_rate(tmp_path):
    paths = [folder(tmp_path / "a", "12"), folder(tmp_path / "b", "12")]
    with pytest.raises(UserError, match=r"a: pairing by time needs the rate .* --fps"):
        pair_frames(open_sources(paths), "time")
    assert pair_frames(open_sources(paths, 10), "time").count == 2


def test_a_repeated_frame_is_read_once(tmp_path, monkeypatch):
    sources = open_sources([folder(tmp_path / "a", "1234"), folder(tmp_path / "b", "1234")], 4)
    read = []
    frames = FrameSource.frames

    def counted(self, start=0):
        for frame in frames(self, start):
            read.append(frame.name)
            yield frame

    monkeypatch.setattr(FrameSource, "frames", counted)
    pairs = pair_frames(sources, "number")
    pairs.numbers[1][:] = [0, 0, 2, 2]
    second = [int(pair[1].samples.values[0, 0, 0]) for pair in read_pairs(sources, pairs)]
    assert second == [0, 0, 2, 2]
    assert len(read) == 4 + 3
    late = [int(pair[1].samples.values[0, 0, 0]) for pair in read_pairs(sources, pairs, 3)]
    assert late == [2]


def test_one_range_is_chosen_from_frames_of_the_whole_sequence(tmp_path):
    for name in ("vis", "ir"):
        (tmp_path / name).mkdir()
    rows = np.indices((40, 40))[0]
    for k in range(40):
        counts = 7000 + 10 * rows + 20 * k
        if k == 39:
            counts = np.where(rows < 10, 9000, counts)  # something hot at the end
        write_image(tmp_path / "vis" / f"{k}.png", np.zeros((40, 40, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "ir" / f"{k}.png"), counts.astype(np.uint16))
    sources = open_sources([tmp_path / "vis", tmp_path / "ir"])
    measured = measure_frames(sources)
    assert list(measured) == [1] and len(measured[1]) == 16
    ranges = SourceRanges([(tmp_path / "vis", tmp_path / "ir")], measured=measured, quiet=True)
    frames = list(sources[1].frames())
    early, late = (ranges.read(frames[k], 1, 16) for k in (0, 10))
    (chosen,) = ranges.chosen.values()
    assert isinstance(chosen, ValueRange) and chosen.low < 7100 and chosen.high > 8700
    # 7200 counts in either frame.
    assert early[20, 0, 0] == late[0, 0, 0] > 0


def test_two_frames_of_one_name_in_a_folder_are_refused(tmp_path):
    path = folder(tmp_path / "a", ["f1", "f2"])
    write_image(path / "f1.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"a: f1.jpg and f1.png have the same stem"):
        open_sources([path])


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0, -1])
def test_a_rate_that_is_none_has_one_line(tmp_path, rate):
    with pytest.raises(UserError, match=rf"--fps {rate}: give frames per second"):
        open_sources([folder(tmp_path / "a", "12")], rate)


def test_a_rate_without_a_folder_is_refused(tmp_path):
    pytest.importorskip("av")
    with pytest.raises(UserError, match="no source is a folder: leave it out"):
        open_sources([tmp_path / "a.mp4", tmp_path / "b.mp4"], 30)


def test_uneven_times_paired_by_number_are_told():
    uneven = video("a", 4, 1, [0, 1, 2, 3])
    other = video("b", 4, 1, [0, 2, 2.5, 3])
    assert not pair_frames([uneven, other]).notes
    info = dataclasses.replace(other.video, variable=True)
    other = dataclasses.replace(other, video=info)
    (note,) = pair_frames([uneven, other]).notes
    assert "a and b show frames of equal number up to 1 s apart" in note
    assert "--pairing time" in note
