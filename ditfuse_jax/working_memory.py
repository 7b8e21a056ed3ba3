"""Working memory that a CPU's programs keep between their steps.

XLA takes a step's working memory, a gigabyte or more, anew from the C library and gives it back;
the C library gives it back to the system, which zeroes it again for the next step, page by page,
and where the system itself is a guest, its host may have to find the pages first.  That took a
fifth to a half of a training step (docs/performance.md).  glibc keeps what it was given, in large
pages, if an environment variable says so when the process starts, so it starts once more.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "GLIBC_TUNABLES"
_WITHOUT_END = 2**40  # bytes
_KEEP = (
    "glibc.malloc.arena_max=1",  # the one heap that can grow beyond 64 MiB
    f"glibc.malloc.mmap_threshold={_WITHOUT_END}",
    f"glibc.malloc.trim_threshold={_WITHOUT_END}",
)
_LARGE_PAGES = "glibc.malloc.hugetlb=1"  # where the kernel gives them on request
_SINCE = (2, 35)  # of glibc
_DEVICES = Path("/dev")


def keep_working_memory(devices: Path = _DEVICES) -> None:
    """Starts this process again with the C library's settings, if nobody decided on them.

    Good for long runs of few programs.
    """
    variables = wanted(os.environ, devices)
    if variables is None:
        return
    with contextlib.suppress(OSError):  # it works without, only slower
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**variables})


def wanted(environment: Mapping[str, str], devices: Path = _DEVICES) -> dict[str, str] | None:
    """The environment to start again with, or None to go on as it is.

    Args:
      environment: variables; with any of malloc's own tunables set the user has decided.
      devices: the folder in which Linux shows accelerators.  What computes on one needs the host's
        memory for checkpoints alone, and gives it back after them.
    """
    tunables = environment.get(_VARIABLE, "")
    if "glibc.malloc." in tunables or not _glibc_can():
        return None
    on_cpu = environment.get("JAX_PLATFORMS") == "cpu" or not _has_accelerator(devices)
    settings = (_LARGE_PAGES, *(_KEEP if on_cpu else ()))
    joined = ":".join(filter(None, (tunables, *settings)))
    return {**environment, _VARIABLE: joined}


def _has_accelerator(devices: Path) -> bool:
    patterns = ("nvidia[0-9]*", "accel*", "vfio/[0-9]*", "kfd")
    return any(any(devices.glob(pattern)) for pattern in patterns)


def _glibc_can() -> bool:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= _SINCE
    except (ValueError, OSError):  # another C library
        return False
