"""Video files: what is read is what was written, and damage has one clear line."""

import dataclasses
import errno
import io
import os
import pathlib
import signal
from fractions import Fraction

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import video, video_writer
from ditfuse_jax.images.frames import open_sources, pair_frames
from ditfuse_jax.images.video import (
    frames_at,
    probe_video,
    read_frames,
    sample_frames,
    spread_places,
)
from ditfuse_jax.images.video_parts import count_packets, join_videos
from ditfuse_jax.images.video_writer import VideoWriter, read_video_metadata

av = pytest.importorskip("av")

NTSC = Fraction(30000, 1001)
WRITTEN = (".mp4", ".mov", ".mkv", ".avi")


def picture(height=48, width=64, shift=0):
    """A smooth colour image, uint8 (H, W, 3)."""
    rows, columns = np.indices((height, width))
    waves = [np.sin((columns + shift) / 20), np.cos(rows / 18), np.sin((rows + columns) / 25)]
    return (127 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def write(path, frames, rate=NTSC, **options):
    with VideoWriter(path, rate, **options) as writer:
        for frame in frames:
            writer.write(frame)
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
    assert (info.variable, info.deep, info.other_tracks, info.cut_off) == (False, False, {}, None)
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


@pytest.mark.parametrize("pixel_format", ["bgra", "rgba64le"])
def test_transparent_parts_of_a_video_are_put_over_black_as_those_of_images(tmp_path, pixel_format):
    deep = pixel_format == "rgba64le"
    white = 65535 if deep else 255
    clear = np.full((32, 48, 4), white, np.uint16 if deep else np.uint8)
    clear[:16, :, 3] = white // 5
    opaque = np.full_like(clear, white)
    read = list(read_frames(raw_video(tmp_path / "x.mkv", [opaque, clear], pixel_format)))
    assert [bool(frame.samples.notes) for frame in read] == [False, True]
    assert read[1].samples.notes == ("its transparent parts are put over black",)
    np.testing.assert_array_equal(read[0].samples.values, opaque[..., :3])
    np.testing.assert_array_equal(read[1].samples.values[:16], white // 5)
    np.testing.assert_array_equal(read[1].samples.values[16:], white)


def test_interlaced_frames_are_told(tmp_path):
    for name, options in (("x", {"x264-params": "tff=1:interlaced=1"}), ("y", {})):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options=options)
            stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
            frame = av.VideoFrame.from_ndarray(picture(64, 64), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    (note,) = next(read_frames(tmp_path / "x.mp4")).samples.notes
    assert note.startswith("its frames are interlaced, so that what moves is combed")
    assert not next(read_frames(tmp_path / "y.mp4")).samples.notes


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


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(UserError, match=r"x\.mp4: is a pipe or a device: save the video as a file"):
        probe_video(tmp_path / "x.mp4")


def test_tracks_besides_the_first_video_track_are_counted(tmp_path):
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(3)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for stream in streams:
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert probe_video(tmp_path / "x.mkv").other_tracks == {"further video track": 2}


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


def open_group(path, kept_from=0, dropped=()):
    """MPEG-2 with B-frames; packets before a key frame or of some numbers are left out."""
    whole = path.with_name("whole.mkv")
    options = {"g": "6", "bf": "2", "flags": "-cgop", "sc_threshold": "1000000000", "b": "4M"}
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for k in range(20):
            flat = np.full((48, 64, 3), 20 + 10 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(whole)) as read, av.open(str(path), "w") as container:
        source = read.streams.video[0]
        stream = container.add_stream_from_template(source)
        for number, packet in enumerate(read.demux(source)):
            if packet.size and number >= kept_from and number not in dropped:
                packet.stream = stream
                container.mux(packet)
    return path


def test_frames_before_the_first_that_can_be_decoded_are_not_counted(tmp_path):
    with av.open(str(open_group(tmp_path / "all.mkv"))) as container:
        keys = [k for k, p in enumerate(container.demux(video=0)) if p.size and p.is_keyframe]
    info = probe_video(open_group(tmp_path / "cut.mkv", kept_from=keys[1]))
    found = values(tmp_path / "cut.mkv")
    assert info.undecodable == 2 and info.frames == len(found)
    sampled = list(sample_frames(tmp_path / "cut.mkv", 3))
    for frame, place in zip(sampled, spread_places(info.frames, 3), strict=True):
        np.testing.assert_array_equal(frame.samples.values, found[place])
    source = open_sources([tmp_path / "cut.mkv"])[0]
    assert len(list(source.frames())) == source.count
    assert "left out: the first 2 frames of" in pair_frames([source, source], "shortest").notes[0]


def test_a_frame_before_the_beginning_without_a_time_is_not_counted():
    first = [(0, None, True), (None, None, False), (160, None, False), (80, 0, False)]
    assert video._without_time(first) == {1}
    assert video._without_time([*first, (200, 160, True), (None, None, False)]) == set()
    assert video._without_time([(None, None, True)] * 3) == set()  # raw streams


def test_a_frame_that_the_decoder_leaves_out_does_not_move_the_others(tmp_path, monkeypatch):
    path = write(tmp_path / "x.mp4", [picture(shift=k) for k in range(6)], 25)
    info = probe_video(path)
    assert len(values(path)) == 6
    times = np.insert(info.times, 3, (info.times[2] + info.times[3]) // 2)
    damaged = dataclasses.replace(info, times=times)
    monkeypatch.setattr(video, "probe_video", lambda _: damaged)
    with pytest.raises(UserError, match=r"frame 3 should be shown at 0.100 s, .* of 0.120 s"):
        values(path)


def test_a_file_that_was_replaced_is_read_again(tmp_path):
    path = write(tmp_path / "x.mp4", [picture()] * 2)
    assert probe_video(path) is probe_video(path) and probe_video(path).frames == 2
    write(path, [picture()] * 3)
    assert probe_video(path).frames == 3


def colour_video(path, **colours):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for name, value in colours.items():
            setattr(stream.codec_context, name, value)
        frame = av.VideoFrame.from_ndarray(picture(), format="rgb24").reformat(format="yuv420p")
        for name, value in colours.items():
            setattr(frame, name, value)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_video_is_refused_by_name(tmp_path, transfer, name):
    path = colour_video(tmp_path / "x.mp4", color_trc=transfer, color_primaries=9)
    for read in (probe_video, values):
        with pytest.raises(UserError, match=rf"x.mp4: has HDR brightness \({name}\)"):
            read(path)


def test_wide_colours_of_a_video_are_told(tmp_path):
    path = colour_video(tmp_path / "x.mp4", color_trc=1, color_primaries=9)
    assert "of Rec. 2020" in next(read_frames(path)).samples.notes[0]
    plain = write(tmp_path / "y.mp4", [picture()])
    assert next(read_frames(plain)).samples.notes == ()


def test_pixels_of_a_turned_video_are_turned_too(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")))
        container.mux(stream.encode(None))
    info = probe_video(path)
    assert (info.size, info.pixel_aspect) == ((64, 48), Fraction(3, 4))


def test_ctrl_c_keeps_whole_frames_and_closing_again_does_nothing(tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "x.mp4", 25)
    writer.write(picture())
    converted = video_writer._converted

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return converted(*arguments)

    monkeypatch.setattr(video_writer, "_converted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.write(picture())
    assert writer.count == 2 and writer.is_open
    writer.close()
    writer.close()
    assert len(values(tmp_path / "x.mp4")) == 2


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".avi", "libx264"), (".ts", "libx264"), (".mpg", "mpeg2video")]
)
def test_containers_that_cannot_be_searched_exactly_give_the_frames_of_their_numbers(
    tmp_path, suffix, codec
):
    path = tmp_path / f"x{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "2", "g": "8", "b": "8M"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for k in range(20):
            flat = np.full((48, 64, 3), 20 + 10 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat, format="rgb24")))
        container.mux(stream.encode(None))
    every = [frame.mean() for frame in values(path)]
    np.testing.assert_allclose(every, 20 + 10 * np.arange(20), atol=3)
    found = {number: frame.samples.values.mean() for number, frame in frames_at(path, [9, 2, 17])}
    assert found == {number: every[number] for number in (2, 9, 17)}
