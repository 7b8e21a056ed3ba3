"""Video files: what is read is what was written, and damage has one clear line."""

import errno
import io
import pathlib
from fractions import Fraction

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.video import probe_video, read_frames, sample_frames
from ditfuse_jax.images.video_writer import (
    VideoWriter,
    count_packets,
    join_videos,
    read_video_metadata,
)

av = pytest.importorskip("av")

NTSC = Fraction(30000, 1001)
WRITTEN = (".mp4", ".mov", ".mkv", ".avi")


def picture(height=48, width=64, shift=0):
    """A smooth colour image, uint8 (H, W, 3)."""
    rows, columns = np.indices((height, width))
    waves = [np.sin((columns + shift) / 20), np.cos(rows / 18), np.sin((rows + columns) / 25)]
    return (127 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def write(path, frames, rate=NTSC, **options):
    with VideoWriter(path, rate, **options) as video:
        for frame in frames:
            video.write(frame)
    return path


def raw_video(path, frames, pixel_format, rate=25, codec="ffv1", times=None):
    """Writes frames with PyAV itself; `frames` are of `pixel_format` already."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        for number, values in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(values, format=pixel_format)
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def values(path, start=0):
    return [frame.samples.values for frame in read_frames(path, start)]


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_frames_size_and_rate_come_back_from_every_format(tmp_path, suffix, size):
    frames = [picture(*size, shift=k) for k in range(5)]
    path = write(tmp_path / f"x{suffix}", frames, metadata={"prompt": "ü"})
    info = probe_video(path)
    assert (info.size, info.rate, info.frames) == (size, NTSC, 5)
    assert (info.variable, info.deep, info.audio, info.cut_off) == (False, False, 0, None)
    for frame, expected in zip(values(path), frames, strict=True):
        error = frame.astype(float) - expected
        assert np.abs(error).mean() < 2.5 and np.abs(error.mean(axis=(0, 1))).max() < 1
    assert read_video_metadata(path) == {"prompt": "ü"}


def test_sixteen_bits_are_kept_in_mkv_and_become_eight_elsewhere(tmp_path):
    deep = picture().astype(np.uint16) * 257 + 3
    np.testing.assert_array_equal(values(write(tmp_path / "x.mkv", [deep]))[0], deep)
    shallow = values(write(tmp_path / "x.mp4", [deep]))[0]
    assert shallow.dtype == np.uint8 and np.abs(shallow.astype(float) - picture()).mean() < 2.5


@pytest.mark.parametrize("kind", ["gray16le", "gray10le", "gray"])
def test_grey_video_keeps_its_counts(tmp_path, kind):
    counts = picture()[..., 0].astype(np.uint16)
    if kind == "gray16le":
        counts = counts * 40 + 7000
    frame = counts.astype(np.uint8) if kind == "gray" else counts
    if kind == "gray10le":  # which PyAV makes from no array
        grey = av.VideoFrame.from_ndarray(counts * 64, format="gray16le")
        path = tmp_path / "x.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width = counts.shape
            stream.pix_fmt = kind
            container.mux(stream.encode(grey.reformat(format=kind)))
            container.mux(stream.encode(None))
    else:
        path = raw_video(tmp_path / "x.mkv", [frame], kind)
    (read,) = read_frames(path)
    assert probe_video(path).deep == (kind != "gray") and not read.samples.full_range
    found = read.samples.values if kind != "gray" else read.samples.values[..., 1]
    # FFmpeg rounds where the test converts to 10 bits.
    np.testing.assert_allclose(found, frame, atol=kind == "gray10le")


def test_a_rotation_is_applied(tmp_path):
    path = tmp_path / "x.mp4"
    image = picture(32, 64)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv444p"
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        turns = next(container.decode(video=0)).rotation // 90
    assert turns % 2 == 1
    (read,) = values(path)
    assert probe_video(path).size == read.shape[:2] == (64, 32)
    assert np.abs(read.astype(float) - np.rot90(image, turns)).mean() < 4


def test_uneven_times_are_seen_and_kept_by_joining(tmp_path):
    times = np.array([0, 33, 100, 133, 300, 333])
    parts = [
        write(tmp_path / "a.mp4", [picture(shift=k) for k in range(4)]),
        write(tmp_path / "b.mp4", [picture(shift=k) for k in range(4, 6)]),
    ]
    path = tmp_path / "x.mp4"
    join_videos(parts, path, times, Fraction(1, 1000), {"a": "b"})
    info = probe_video(path)
    assert info.variable and read_video_metadata(path) == {"a": "b"}
    np.testing.assert_allclose(info.seconds, times / 1000, atol=1e-4)
    for frame, shift in zip(values(path), range(6), strict=True):
        assert np.abs(frame.astype(float) - picture(shift=shift)).mean() < 2.5


def test_joined_parts_must_hold_all_frames(tmp_path):
    part = write(tmp_path / "a.mp4", [picture()] * 3)
    assert count_packets(part) == 3
    for count in (2, 4):
        with pytest.raises(UserError, match=r"frames than it should|3 frames instead of 4"):
            join_videos([part], tmp_path / "x.mp4", np.arange(count), Fraction(1, 25))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_reading_may_start_late_and_samples_are_spread(tmp_path):
    counts = [np.full((32, 32), 1000 * k, np.uint16) for k in range(9)]
    path = raw_video(tmp_path / "x.mkv", counts, "gray16le")
    assert [frame[0, 0] for frame in values(path, start=6)] == [6000, 7000, 8000]
    assert [f.samples.values[0, 0] for f in sample_frames(path, 3)] == [0, 4000, 8000]


def damaged(path, share, length=400):
    data = bytearray(path.read_bytes())
    start = int(share * len(data))
    data[start : start + length] = bytes(length)
    path.write_bytes(data)


def test_a_damaged_frame_is_named(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(8)]
    path = write(tmp_path / "x.mp4", frames)
    damaged(path, 0.6)
    with pytest.raises(UserError, match=r"x.mp4: frame [3-6] (is damaged|cannot be decoded)"):
        values(path)


def test_a_video_that_is_cut_off_is_seen(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint16) for _ in range(20)]
    for suffix in (".mkv", ".mp4"):
        shallow = [frame.astype(np.uint8) for frame in frames]
        path = write(tmp_path / f"x{suffix}", frames if suffix == ".mkv" else shallow, 10)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info = probe_video(tmp_path / "x.mkv")
    assert info.frames < 12 and info.cut_off == pytest.approx(2, abs=0.2)
    with pytest.raises(UserError, match=r"cannot be read as a video .*cut off"):
        probe_video(tmp_path / "x.mp4")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("x.mp4", None, "no such file"),
        ("x.mp4", b"", "cannot be read as a video"),
        ("x.avi", b"not a video" * 50, "cannot be read as a video"),
    ],
)
def test_what_is_no_video_has_one_line(tmp_path, name, content, line):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: {line}") as failed:
        probe_video(tmp_path / name)
    assert "\n" not in str(failed.value)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"av is not installed: pip install 'ditfuse-jax\[video\]'"):
        probe_video(tmp_path / "x.mp4")


class FullDisk(io.FileIO):
    """A file on a disk that is full after 2,000 bytes."""

    def write(self, data, /):
        if self.tell() + len(data) > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    opened = pathlib.Path.open
    monkeypatch.setattr(
        pathlib.Path,
        "open",
        lambda self, mode="r", *a, **k: (
            FullDisk(self, "wb") if mode == "wb" else opened(self, mode, *a, **k)
        ),
    )
    (tmp_path / "x.mp4").write_bytes(b"older")
    with pytest.raises(UserError, match=r"x.mp4: cannot be written \(No space left"):
        write(tmp_path / "x.mp4", frames)
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]
    assert (tmp_path / "x.mp4").read_bytes() == b"older"


def test_a_failure_between_frames_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="frame 1 is 64x46, the first 64x48"):
        write(tmp_path / "x.mp4", [picture(), picture(46)])
    with pytest.raises(UserError, match="no frames to write"):
        write(tmp_path / "y.mp4", [])
    with pytest.raises(UserError, match=r"no video is written with the suffix '.gif'"):
        write(tmp_path / "y.gif", [picture()])
    assert not list(tmp_path.iterdir())
