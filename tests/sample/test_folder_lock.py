"""One process at a time works in a folder."""

import os

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.sample.folder_lock import FolderLock


def test_a_folder_in_use_is_refused_with_its_owner_and_free_after_release(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(UserError, match=rf"is in use by process {os.getpid()}: the same job"):
        FolderLock(tmp_path)
    lock.release()
    lock.release()
    assert not list(tmp_path.iterdir())
    FolderLock(tmp_path).release()


def test_a_dead_owner_is_taken_over(tmp_path):
    (tmp_path / ".lock").write_text("1\n")
    lock = FolderLock(tmp_path)
    assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    lock.release()
