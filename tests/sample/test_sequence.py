"""Sequences: what is read, written, kept after an interruption, and refused.

The sampler is replaced by one that returns the mean of the sources.
"""

import errno
import os
import threading
import time
import weakref
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_image, read_metadata, write_image
from ditfuse_jax.images.video import probe_video, read_frames
from ditfuse_jax.images.video_parts import count_packets
from ditfuse_jax.images.video_writer import VideoWriter, read_video_metadata
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.sample import (
    FusionInput,
    StackFuser,
    TrainedModel,
    fuse,
    sequence,
    sequence_output,
)
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.train import load_recipe, resolve

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def trained():
    recipe = resolve(load_recipe("nano_m3", []))
    return TrainedModel(
        None, None, PixelSpace(), {}, recipe.model, recipe.sampling, None, None, "nano"
    )


@pytest.fixture
def fused_frames(monkeypatch, trained):
    """The number of frames that were fused, in a list."""
    count = [0]

    def mean(parameters, branches, noise, weights, reuse=None):
        count[0] += 1
        return np.asarray(branches.images[0]).mean(axis=1)

    monkeypatch.setattr("ditfuse_jax.sample.stack_fuser.make_sampler", lambda *_: mean)
    monkeypatch.setattr(sequence, "load_trained", lambda *_, **__: trained)
    return count


def shade(k):
    """Colour of frame k."""
    return np.array([20 + 10 * (k % 18), 60, 200 - 10 * (k % 18)], np.uint8)


def frame(k, size=(32, 48)):
    return np.broadcast_to(shade(k), (*size, 3)).copy()


@pytest.fixture
def make(tmp_path):
    """Makes a video or a folder of frames of a name; frame k has the colour `shade(k)`."""

    def run(name, count=6, rate=25, size=(32, 48), first=0):
        path = tmp_path / name
        images = [frame(first + k, size) for k in range(count)]
        if path.suffix:
            with VideoWriter(path, rate) as video:
                for image in images:
                    video.write(image)
        else:
            path.mkdir()
            for k, image in enumerate(images):
                write_image(path / f"{k}.png", image)
        return path

    return run


def fuse_to(output, *inputs, **options):
    return fuse(list(inputs), output, checkpoint=Path("nano"), **options)


def colours(path):
    return np.array([f.samples.values.mean(axis=(0, 1)) for f in read_frames(path)])


def expected(count, first=0):
    return np.array([shade(first + k) for k in range(count)], float)


@pytest.mark.parametrize("output", ["x.mp4", "x.mov", "x.mkv", "x.avi"])
def test_two_videos_become_one_of_equal_size_rate_and_length(fused_frames, make, tmp_path, output):
    vis, ir = make("vis.mp4", rate=Fraction(30000, 1001)), make("ir.mkv", rate=29.97)
    assert fuse_to(tmp_path / output, vis, ir) == [tmp_path / output]
    info = probe_video(tmp_path / output)
    assert (info.size, info.frames, info.rate) == ((32, 48), 6, Fraction(30000, 1001))
    np.testing.assert_allclose(colours(tmp_path / output), expected(6), atol=3)
    metadata = read_video_metadata(tmp_path / output)
    assert metadata["sources"] == "vis.mp4, ir.mkv" and "fusion" in metadata["prompt"].lower()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"vis.mp4", "ir.mkv", output} and fused_frames == [6]


def test_a_folder_and_a_video_become_a_folder_of_frames(fused_frames, make, tmp_path, capsys):
    paths = fuse_to(tmp_path / "out", make("vis"), make("ir.mp4"))
    assert [path.name for path in paths] == [f"{k}.png" for k in range(6)]
    found = [read_image(path)[0, 0] for path in paths]
    np.testing.assert_allclose(found, expected(6), atol=3)
    assert "6 frames in" in capsys.readouterr().out
    fuse_to(tmp_path / "out2", tmp_path / "ir.mp4", tmp_path / "vis")
    assert sorted(path.name for path in (tmp_path / "out2").iterdir())[0] == "000000.png"


def test_folders_become_a_video_of_the_given_rate(fused_frames, make, tmp_path):
    vis, ir = make("vis", size=(31, 47)), make("ir", size=(31, 47))
    with pytest.raises(UserError, match=r"x.mp4: give the rate of the folders' frames with --fps"):
        fuse_to(tmp_path / "x.mp4", vis, ir)
    fuse_to(tmp_path / "x.mp4", vis, ir, fps=12.5)
    info = probe_video(tmp_path / "x.mp4")
    assert (info.size, info.rate, info.frames) == ((31, 47), Fraction(25, 2), 6)


def test_uneven_times_are_kept_and_avi_refuses_them(fused_frames, make, tmp_path, capsys):
    times = [0, 40, 80, 200, 240, 400]
    for name in ("vis.mkv", "ir.mkv"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = 32, 48, "bgr0"
            stream.codec_context.time_base = Fraction(1, 1000)
            for k, time in enumerate(times):
                made = av.VideoFrame.from_ndarray(frame(k), format="rgb24")
                made = made.reformat(format="bgr0")
                made.pts, made.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(made))
            container.mux(stream.encode(None))
    vis, ir = tmp_path / "vis.mkv", tmp_path / "ir.mkv"
    with pytest.raises(UserError, match=r"uneven times, which .avi does not hold"):
        fuse_to(tmp_path / "x.avi", vis, ir)
    fuse_to(tmp_path / "x.mp4", vis, ir)
    np.testing.assert_allclose(probe_video(tmp_path / "x.mp4").seconds, np.array(times) / 1000)
    assert "uneven times" in capsys.readouterr().err


def test_thermal_counts_keep_sixteen_bits_and_one_range(fused_frames, tmp_path, capsys):
    rows, columns = np.indices((32, 48))
    for k in range(4):
        for name in ("vis", "ir"):
            (tmp_path / name).mkdir(exist_ok=True)
        counts = (7000 + 10 * rows + 5 * columns + 100 * k).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "ir" / f"{k}.png"), counts)
        write_image(tmp_path / "vis" / f"{k}.png", frame(0))
    fuse_to(tmp_path / "x.mkv", tmp_path / "vis", tmp_path / "ir", fps=25)
    video = [f.samples.values.astype(float) for f in read_frames(tmp_path / "x.mkv")]
    assert probe_video(tmp_path / "x.mkv").deep
    # 7200 counts in the first frame and in the third.
    assert abs(video[0][20, 0] - video[2][0, 0]).max() <= 2
    error = capsys.readouterr().err
    assert error.count("becomes black..white") == 1 and str(tmp_path / "ir") in error


@pytest.fixture
def mixed(tmp_path):
    """Folders of three frames; of the second source only the middle one has 16 bits."""
    for k in range(3):
        for name in ("vis", "ir"):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(tmp_path / name / f"{k}.png", frame(k))
    counts = (7000 + np.indices((32, 48))[0] * 40).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "ir" / "1.png"), counts)
    return tmp_path / "vis", tmp_path / "ir"


def test_all_frames_have_the_depth_of_the_deepest(fused_frames, mixed, tmp_path):
    fuse_to(tmp_path / "x.mkv", *mixed, fps=25, quiet=True)
    assert probe_video(tmp_path / "x.mkv").deep


def test_a_deep_frame_that_was_not_measured_needs_a_range_and_a_depth(
    fused_frames, mixed, tmp_path, monkeypatch
):
    monkeypatch.setattr("ditfuse_jax.images.frames.MEASURED_FRAMES", 2)
    options = {"fps": 25, "quiet": True}
    with pytest.raises(UserError, match=r"ir/1.png: has more than 8 bits .* give --depth 16, or 8"):
        fuse_to(tmp_path / "x.mkv", *mixed, **options)
    with pytest.raises(UserError, match=r"ir/1.png: has more than 8 bits .*--range LOW,HIGH"):
        fuse_to(tmp_path / "x.mp4", *mixed, **options)
    fuse_to(tmp_path / "y.mkv", *mixed, depth=16, value_range="7000,8500", **options)
    assert probe_video(tmp_path / "y.mkv").deep


def stop_after(monkeypatch, frames, error):
    """Lets fusing fail after some frames."""
    original = StackFuser.fuse_iter

    def limited(*arguments):
        for number, done in enumerate(original(*arguments)):
            if number == frames:
                raise error
            yield done

    monkeypatch.setattr(StackFuser, "fuse_iter", limited)
    return lambda: monkeypatch.setattr(StackFuser, "fuse_iter", original)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("a bad frame")])
def test_an_interrupted_video_goes_on_where_it_stopped(
    fused_frames, make, tmp_path, monkeypatch, capsys, error
):
    vis, ir, output = make("vis.mp4"), make("ir.mp4"), tmp_path / "x.mp4"
    go_on = stop_after(monkeypatch, 4, error)
    with pytest.raises(type(error)):
        fuse_to(output, vis, ir)
    go_on()
    assert not output.exists()
    (folder,) = tmp_path.glob("x.mp4.parts-*")
    assert [path.name for path in folder.iterdir()] == ["00000000.mp4"]
    before = fused_frames[0]
    fuse_to(output, vis, ir)
    assert fused_frames[0] - before == 2 and not folder.exists()
    np.testing.assert_allclose(colours(output), expected(6), atol=3)
    assert "beside 4 that were made before" in capsys.readouterr().out
    fuse_to(output, vis, ir)
    assert "its 6 frames were made before and have not changed" in capsys.readouterr().out
    assert fused_frames[0] - before == 2


def test_ctrl_c_while_a_frame_is_written_keeps_those_before_and_ends_the_threads(
    fused_frames, make, tmp_path, monkeypatch
):
    vis, ir, output = make("vis.mp4", 30), make("ir.mp4", 30), tmp_path / "x.mp4"
    write = sequence_output.VideoFile.write
    others = set(threading.enumerate())  # an error that another test keeps keeps its threads

    def interrupted(self, number, image, metadata):
        if number == 3:
            raise KeyboardInterrupt
        write(self, number, image, metadata)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sequence_output.VideoFile, "write", interrupted)
        fuse_to(output, vis, ir)
    (part,) = next(tmp_path.glob("x.mp4.parts-*")).iterdir()
    assert count_packets(part) == 3
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("ditfuse-"):
            thread.join(10)
            assert not thread.is_alive(), thread.name
    assert fused_frames[0] <= 3 + 5  # one is written, and in each thread few are ahead
    before = fused_frames[0]
    fuse_to(output, vis, ir)
    assert fused_frames[0] - before == 27
    np.testing.assert_allclose(colours(output), expected(30), atol=3)


@pytest.mark.parametrize("limit", [32 * 48, 32 * 48 - 1])
def test_large_frames_are_made_one_after_the_other_and_their_memory_is_returned(
    fused_frames, make, tmp_path, monkeypatch, limit
):
    vis, ir, calls = make("vis"), make("ir.mp4"), []
    write, read = sequence_output.FrameFolder.write, sequence.StackReader.read
    done = {"read": 0, "written": 0}
    ahead = []

    def counted_read(self, stack):
        done["read"] += 1
        return read(self, stack)

    def counted_write(self, number, image, metadata):
        time.sleep(0.05)  # in which threads would read
        ahead.append(done["read"] - done["written"])
        done["written"] += 1
        write(self, number, image, metadata)

    monkeypatch.setattr(sequence, "MAX_PIXELS", limit)
    monkeypatch.setattr(sequence, "return_working_memory", lambda: calls.append(limit))
    monkeypatch.setattr(sequence.StackReader, "read", counted_read)
    monkeypatch.setattr(sequence_output.FrameFolder, "write", counted_write)
    fuse_to(tmp_path / "out", vis, ir)
    if limit < 32 * 48:
        assert ahead == [1] * 6 and calls
    else:
        assert max(ahead) > 1 and not calls


def test_a_failure_before_the_first_fused_frame_leaves_no_folder(
    fused_frames, make, tmp_path, monkeypatch
):
    def failing(self, inputs):
        next(iter(inputs))
        raise UserError("out of memory")

    monkeypatch.setattr(StackFuser, "fuse_iter", failing)
    with pytest.raises(UserError, match=r"^out of memory$"):
        fuse_to(tmp_path / "out" / "frames", make("vis"), make("ir.mp4"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["notes.txt/frames", "notes.txt/x/out.mkv"])
def test_an_output_that_cannot_be_made_is_refused_before_a_model_is_loaded(
    make, tmp_path, monkeypatch, output
):
    monkeypatch.setattr(sequence, "load_trained", None)  # never called
    (tmp_path / "notes.txt").write_text("kept")
    inputs = [make("a.mkv"), make("b.mkv")]
    with pytest.raises(UserError, match=r"notes\.txt.*: the folder cannot be created \(Not a dir"):
        fuse(inputs, tmp_path / output, checkpoint=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "kept"


def test_what_the_sampler_returned_is_freed_before_the_next_frame(trained, monkeypatch):
    made = []

    def sampler(parameters, branches, noise, weights):
        assert all(reference() is None for reference in made)
        result = np.asarray(branches.images[0]).mean(axis=1)
        made.append(weakref.ref(result))
        return result

    monkeypatch.setattr("ditfuse_jax.sample.stack_fuser.make_sampler", lambda *_: sampler)
    prompt = standard_prompt("ivif", 2)
    inputs = ((k, FusionInput([frame(k), frame(k)], prompt)) for k in range(3))
    assert len(list(StackFuser(trained, trained.sampling).fuse_iter(inputs))) == 3


def test_a_full_disk_has_one_line_that_says_what_is_kept(fused_frames, make, tmp_path, monkeypatch):
    monkeypatch.setattr(sequence_output, "_PART_FRAMES", 2)
    vis, ir, output = make("vis.mp4"), make("ir.mp4"), tmp_path / "x.mp4"
    encode = VideoWriter._write

    def full(self, image):
        if "00000002" in self.path.name:
            with self._failures():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        encode(self, image)

    monkeypatch.setattr(VideoWriter, "_write", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left .*; 2 frames are kept"):
        fuse_to(output, vis, ir)
    assert [path.name for path in next(tmp_path.glob("x.mp4.parts-*")).iterdir()] == [
        "00000000.mp4"
    ]


def test_kept_parts_of_another_job_are_not_used(fused_frames, make, tmp_path, monkeypatch):
    vis, ir, output = make("vis.mp4"), make("ir.mp4"), tmp_path / "x.mp4"
    go_on = stop_after(monkeypatch, 4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fuse_to(output, vis, ir)
    go_on()
    before = fused_frames[0]
    fuse_to(output, vis, ir, prompts=["Make it brighter."])
    assert fused_frames[0] - before == 6
    assert len(list(tmp_path.glob("x.mp4.parts-*"))) == 1  # those of the first job
    vis.unlink()
    make("vis.mp4", first=3)
    fuse_to(output, vis, ir, prompts=["Make it brighter."])
    assert fused_frames[0] - before == 12


def test_a_damaged_part_is_made_again(fused_frames, make, tmp_path, monkeypatch):
    monkeypatch.setattr(sequence_output, "_PART_FRAMES", 2)
    vis, ir, output = make("vis.mp4"), make("ir.mp4"), tmp_path / "x.mp4"
    go_on = stop_after(monkeypatch, 5, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fuse_to(output, vis, ir)
    go_on()
    (folder,) = tmp_path.glob("x.mp4.parts-*")
    assert len(list(folder.iterdir())) == 3
    (folder / "00000002.mp4").write_bytes(b"damaged")
    (folder / ".killed.tmp").write_bytes(b"half")
    before = fused_frames[0]
    fuse_to(output, vis, ir)
    assert fused_frames[0] - before == 4
    np.testing.assert_allclose(colours(output), expected(6), atol=3)


def test_an_interrupted_folder_makes_only_what_is_missing(fused_frames, make, tmp_path):
    vis, ir, output = make("vis.mp4"), make("ir.mp4"), tmp_path / "out"
    paths = fuse_to(output, vis, ir)
    kept = {path: path.stat().st_mtime_ns for path in paths}
    paths[2].unlink()
    write_image(paths[4], frame(0))  # somebody else's
    before = fused_frames[0]
    assert fuse_to(output, vis, ir) == paths
    assert fused_frames[0] - before == 2
    same = [path for path in paths if path.stat().st_mtime_ns == kept[path]]
    assert same == [paths[k] for k in (0, 1, 3, 5)]
    np.testing.assert_allclose(read_image(paths[4])[0, 0], shade(4), atol=3)
    assert read_metadata(paths[2])["sources"] == "vis.mp4, ir.mp4"


def test_a_frame_that_cannot_be_read_is_named_and_what_is_done_stays(fused_frames, make, tmp_path):
    vis, ir, output = make("vis"), make("ir"), tmp_path / "x.mp4"
    (ir / "3.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"ir/3.png: is not an image"):
        fuse_to(output, vis, ir, fps=25)
    (part,) = next(tmp_path.glob("x.mp4.parts-*")).iterdir()
    assert count_packets(part) == 3
    write_image(ir / "3.png", frame(3, (30, 48)))
    write_image(vis / "3.png", frame(3, (30, 48)))
    with pytest.raises(UserError, match=r"vis/3.png is 48x30, the first frame 48x32"):
        fuse_to(output, vis, ir, fps=25)
    assert not output.exists() and len(list(tmp_path.glob("x.mp4.parts-*"))) == 2


def test_what_is_left_out_is_told(fused_frames, make, tmp_path, capsys):
    with av.open(str(tmp_path / "vis.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        sound = container.add_stream("aac", rate=8000)
        for k in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(k), format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 2560), np.float32), "fltp", "mono")
        silence.rate = 8000
        container.mux(sound.encode(silence))
        for one in (stream, sound):
            container.mux(one.encode(None))
    make("ir.mp4")
    fuse_to(tmp_path / "x.mp4", tmp_path / "vis.mp4", tmp_path / "ir.mp4", pairing="shortest")
    error = capsys.readouterr().err
    assert f"left out: 1 audio track of {tmp_path / 'vis.mp4'}" in error
    assert f"left out: the last 2 of 8 frames of {tmp_path / 'vis.mp4'}" in error
    assert probe_video(tmp_path / "x.mp4").frames == 6


def test_pixels_of_other_shapes_are_told(fused_frames, make, tmp_path, capsys):
    with VideoWriter(tmp_path / "pal.mkv", 25, pixel_aspect=Fraction(16, 15)) as video:
        for k in range(6):
            video.write(frame(k))
    square, pal, told = make("square.mkv"), tmp_path / "pal.mkv", "fused pixel by pixel, so check"
    fuse_to(tmp_path / "x.mkv", square, pal)
    assert (
        f"of 1:1 and {pal} of 16:15 (width to height): they are {told}" in capsys.readouterr().err
    )
    fuse_to(tmp_path / "frames", pal, make("other.mkv"))
    assert f"of 16:15 (width to height), which its frames in {tmp_path}" in capsys.readouterr().err
    fuse_to(tmp_path / "y.mkv", square, make("third.mkv"))
    assert "pixels of" not in capsys.readouterr().err


def test_an_odd_size_says_how_it_is_kept(fused_frames, make, tmp_path, capsys):
    vis, ir = make("vis", size=(31, 48)), make("ir", size=(31, 48))
    fuse_to(tmp_path / "x.mp4", vis, ir, fps=25)
    assert "x.mp4: an odd width or height is kept by H.264 4:4:4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "options", "line"),
    [
        ("x.gif", {}, "x.gif: a sequence needs a folder for its frames, or a video"),
        ("x.png", {}, "x.png: a sequence needs a folder for its frames, or a video"),
        ("x.webm", {}, "x.webm: videos are written as .avi .mkv .mov .mp4"),
        ("vis.mp4", {}, "vis.mp4 is one of the sources: choose another output"),
        ("x.mp4", {"depth": 16}, "x.mp4: this format has 8 bits: use .mkv"),
        ("x.mp4", {"prompts": ["One.", "Two."]}, "2 prompts: a sequence is fused with one"),
        ("x.mp4", {"fps": 30}, "no source is a folder: leave it out"),
        (
            "x.mp4",
            {"reuse": 4, "sampling": {"batch_size": 2}},
            "--reuse has no effect with --batch",
        ),
        ("x.mp4", {"recursive": True}, "--recursive has no effect on sequences"),
        ("x.mp4", {"pairing": "time", "resize": True, "align": "auto"}, "exclude each other"),
    ],
)
def test_what_a_sequence_cannot_do_is_refused_before_anything_is_written(
    fused_frames, make, tmp_path, output, options, line
):
    vis, ir = make("vis.mp4"), make("ir.mp4")
    with pytest.raises(UserError, match=line):
        fuse_to(tmp_path / output, vis, ir, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"vis.mp4", "ir.mp4"}
    assert fused_frames == [0]


def test_reuse_that_a_region_prevents_is_refused(fused_frames, make, tmp_path):
    vis, ir, mask = make("vis.mp4"), make("ir.mp4"), tmp_path / "mask.png"
    write_image(mask, np.full((32, 48, 3), 255, np.uint8))
    with pytest.raises(UserError, match="--reuse has no effect with a region"):
        fuse_to(tmp_path / "x.mp4", vis, ir, region=mask, reuse=4, prompts=["Make it brighter."])
    assert fused_frames == [0]


def test_options_of_sequences_are_refused_for_images(make, tmp_path):
    with pytest.raises(UserError, match="--smoothing are for videos"):
        fuse_to(tmp_path / "out", make("vis"), make("ir"), fps=25)
