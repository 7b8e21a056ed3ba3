"""Parts of a video: what Ctrl-C leaves, and who may work on them."""

import signal
from fractions import Fraction

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import video_writer
from ditfuse_jax.images.video_parts import count_packets
from ditfuse_jax.sample.sequence_output import VideoFile

pytest.importorskip("av")
IMAGE = np.full((32, 48, 3), 90, np.uint8)


@pytest.fixture
def output(tmp_path):
    return lambda: VideoFile(
        tmp_path / "x.mp4", "0123456789abcdef", np.arange(4), Fraction(1, 25), quiet=True
    )


def interrupt(monkeypatch, how):
    """Lets the next frame be interrupted while it is encoded."""
    converted = video_writer._converted

    def run(*arguments):
        how()
        return converted(*arguments)

    monkeypatch.setattr(video_writer, "_converted", run)


def test_ctrl_c_while_a_frame_is_encoded_keeps_all_frames(output, monkeypatch):
    video = output()
    video.write(0, IMAGE, {})
    interrupt(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        video.write(1, IMAGE, {})
    video.stop()
    video.stop()
    assert [count_packets(path) for path in video.folder.iterdir()] == [2]
    assert output().count == 2


def test_a_part_that_was_removed_is_not_finished(output, monkeypatch):
    video = output()
    video.write(0, IMAGE, {})

    def fail():
        raise KeyboardInterrupt

    interrupt(monkeypatch, fail)
    with pytest.raises(KeyboardInterrupt):
        video.write(1, IMAGE, {})
    video.stop()
    assert video.count == 0 and not list(video.folder.iterdir())


def test_parts_in_use_are_refused_and_left_alone(output):
    first = output()
    first.write(0, IMAGE, {})
    before = sorted(path.name for path in first.folder.iterdir())
    with pytest.raises(UserError, match="is in use by process"):
        output()
    assert sorted(path.name for path in first.folder.iterdir()) == before
    first.stop()
    again = output()
    assert again.count == 1
    again.stop()


def test_what_cannot_be_removed_has_one_line_and_frees_the_parts(output):
    folder = output().folder
    (folder / "00000003.mp4").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(UserError, match=r"00000003.mp4: cannot be removed"):
            output()


def test_parts_of_other_settings_are_named_in_one_note(output, tmp_path, capsys):
    for name in ("x.mp4.parts-a", "x.mp4.parts-b", "y.mp4.parts-c"):
        (tmp_path / name).mkdir()
    VideoFile(tmp_path / "x.mp4", "0123456789abcdef", np.arange(4), Fraction(1, 25))
    (line,) = capsys.readouterr().err.splitlines()
    assert "x.mp4.parts-a" in line and "x.mp4.parts-b" in line and "y.mp4" not in line
