"""Two commands that write into one folder do not mix their images."""

import numpy as np
import pytest

from ditfuse_jax import Fuser
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import read_metadata, write_image
from ditfuse_jax.sample import StackFuser, fuse
from ditfuse_jax.sample.fingerprints import KEY
from ditfuse_jax.sample.sequence_output import FrameFolder
from ditfuse_jax.sample.watched_outputs import WatchedOutputs

IMAGE = np.full((16, 16, 3), 90, np.uint8)


def test_what_another_process_writes_meanwhile_is_seen(tmp_path):
    old, new, gone = (tmp_path / f"{name}.png" for name in ("old", "new", "gone"))
    for path in (old, gone):
        write_image(path, IMAGE, {KEY: "before"})
    watched = WatchedOutputs([old, new, gone])
    assert not any(watched.is_made(path, "mine") for path in (old, new, gone))
    gone.unlink()
    assert not watched.is_made(gone, "mine")
    for path in (old, new):
        write_image(path, IMAGE, {KEY: "mine"})
        assert watched.is_made(path, "mine")
        write_image(path, IMAGE, {KEY: "other"})
        with pytest.raises(UserError, match=rf"^{path}: was written by another process while"):
            watched.is_made(path, "mine")


def test_frames_of_another_command_are_not_replaced(tmp_path):
    mine, other = (FrameFolder(tmp_path, ["0.png", "1.png"], job) for job in ("mine", "other"))
    equal = FrameFolder(tmp_path, ["0.png", "1.png"], "other")
    other.write(0, IMAGE, {})
    written = (tmp_path / "0.png").stat()
    equal.write(0, IMAGE, {})
    assert (tmp_path / "0.png").stat().st_ino == written.st_ino  # made already
    with pytest.raises(UserError, match=r"0\.png: was written by another process"):
        mine.write(0, IMAGE, {})
    assert other.done(0) and not mine.done(0)


def test_a_job_whose_files_another_one_replaces_fails_at_its_end(tmp_path):
    names = ["0.png", "1.png"]
    mine, same = (FrameFolder(tmp_path, names, "mine") for _ in range(2))
    for number in range(2):
        mine.write(number, IMAGE, {})
    write_image(tmp_path / "0.png", IMAGE, {KEY: same._keys[0]})  # as an equal job writes it
    assert mine.finish({}) == [tmp_path / name for name in names]
    other = FrameFolder(tmp_path, names, "other")  # finds what is there, and makes it anew
    other.write(1, IMAGE, {})
    assert other.done(1)
    with pytest.raises(UserError, match=r"1\.png: was written by another process"):
        mine.finish({})


@pytest.mark.medium
def test_a_folder_that_another_command_fills_is_left_to_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for folder in ("vis", "ir"):
        (tmp_path / folder).mkdir()
        for name in "12":
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            write_image(tmp_path / folder / f"{name}.png", pixels)
    inputs, output = [tmp_path / "vis", tmp_path / "ir"], tmp_path / "out"
    whole = Fuser.load("small").trained
    monkeypatch.setattr("ditfuse_jax.sample.files.load_trained", lambda *_, **__: whole)
    fuse_iter = StackFuser.fuse_iter

    def beside(self, items):
        for done in fuse_iter(self, items):
            if not (output / "1.png").exists():
                write_image(output / "1.png", IMAGE, {KEY: "of another command"})
            yield done

    monkeypatch.setattr(StackFuser, "fuse_iter", beside)
    with pytest.raises(UserError, match=r"1\.png: was written by another process while this one"):
        fuse(inputs, output, checkpoint=tmp_path, quiet=True)
    assert read_metadata(output / "1.png")[KEY] == "of another command"
