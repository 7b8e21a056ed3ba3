"""Asking for large pages, once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ditfuse_jax.huge_pages import wanted

ASKED = "glibc.malloc.hugetlb=1"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel that gives large pages on request, under a C library that can ask."""
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36")
    policy = tmp_path / "enabled"
    policy.write_text("always [madvise] never\n")
    return policy


def test_a_process_starts_again_with_large_pages(kernel):
    assert wanted({"HOME": "/h"}, kernel) == {"HOME": "/h", "GLIBC_TUNABLES": ASKED}


def test_other_tunables_stay(kernel):
    found = wanted({"GLIBC_TUNABLES": "glibc.rtld.nns=4"}, kernel)
    assert found == {"GLIBC_TUNABLES": f"glibc.rtld.nns=4:{ASKED}"}


def test_a_process_that_started_again_goes_on(kernel):
    again = wanted({}, kernel)
    assert again is not None and wanted(again, kernel) is None


def test_what_the_user_decided_about_memory_stays(kernel):
    assert wanted({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, kernel) is None


@pytest.mark.parametrize("policy", ["[always] madvise never", "always madvise [never]", None])
def test_where_the_kernel_decides_nothing_is_asked(kernel, policy):
    if policy is None:
        kernel.unlink()
    else:
        kernel.write_text(policy)
    assert wanted({}, kernel) is None


@pytest.mark.parametrize("library", ["glibc 2.31", "musl", ""])
def test_another_c_library_is_not_asked(kernel, monkeypatch, library):
    monkeypatch.setattr(os, "confstr", lambda _: library)
    assert wanted({}, kernel) is None


def test_the_words_of_the_command_and_its_exit_code_survive(tmp_path, kernel):
    """The real thing: a process that starts itself again as the console command does."""
    script = tmp_path / "command.py"
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ditfuse_jax import huge_pages\n"
        "os.confstr = lambda _: 'glibc 2.36'\n"
        f"huge_pages.ask_for_huge_pages(Path({str(kernel)!r}))\n"
        "print(os.getpid(), os.environ['GLIBC_TUNABLES'], sys.argv[1:], flush=True)\n"
        "sys.exit(7)\n"
    )
    variables = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), "train", "two words", "--x=1"],
        env=variables | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert said == f"{process.pid} {ASKED} {['train', 'two words', '--x=1']}\n"
