"""Large pages for what a CPU computes.

XLA takes its working memory anew for every step and gives it back; in pages of 4 KiB a fifth of a
training step's processor time goes into that (docs/performance.md).  glibc asks for large pages if
an environment variable says so when the process starts, so it starts once more.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "GLIBC_TUNABLES"
_SETTING = "glibc.malloc.hugetlb=1"
_SINCE = (2, 35)  # of glibc, which ignores what it does not know
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask_for_huge_pages(kernel: Path = _KERNEL) -> None:
    """Starts this process again with large pages, if they are to be had and nobody decided.

    Good for long runs of few programs.
    """
    variables = wanted(os.environ, kernel)
    if variables is None:
        return
    with contextlib.suppress(OSError):  # it works without, only slower
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**variables})


def wanted(environment: Mapping[str, str], kernel: Path = _KERNEL) -> dict[str, str] | None:
    """The environment to start again with, or None to go on as it is.

    Args:
      environment: variables; with any of malloc's own tunables set the user has decided.
      kernel: the file in which Linux tells its policy.
    """
    tunables = environment.get(_VARIABLE, "")
    if "glibc.malloc." in tunables:
        return None
    if not _kernel_gives_on_request(kernel) or not _glibc_asks():
        return None
    joined = ":".join(filter(None, (tunables, _SETTING)))
    return {**environment, _VARIABLE: joined}


def _kernel_gives_on_request(kernel: Path) -> bool:
    try:
        return "[madvise]" in kernel.read_text()
    except OSError:  # not Linux, or a kernel without them
        return False


def _glibc_asks() -> bool:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= _SINCE
    except (ValueError, OSError):  # another C library
        return False
