"""Lets the C library keep the memory that a CPU's programs use in every step.

XLA allocates the working memory of a step, a gigabyte or more, with malloc and frees it after the
step.  By default glibc returns it to the system, which has to zero every page again for the next
step; this takes a fifth to a half of a training step (docs/performance.md).  Here glibc is told to
keep what it was given, in large pages.
"""

import os
from collections.abc import Mapping
from pathlib import Path

# Parameters of `mallopt` (malloc.h) and advice of `madvise` (Linux).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_UNLIMITED = -1  # converted to the largest size_t
_MADV_HUGEPAGE = 14
_HUGE_PAGE = 2**21
_LARGEST_HEAP = 2**36  # bytes that are asked to be in large pages

# Bytes of blocks that are returned at once, and of free memory at the heap's end, when memory is
# returned again: less than a channel of a frame of two megapixels as float32.
_RETURNED = 2**22

_kept = False  # whether this process keeps freed memory

_DEVICES = Path("/dev")


def keep_working_memory(devices: Path = _DEVICES) -> bool:
    """Makes malloc keep freed memory, unless computations run on an accelerator.

    Must be called before the process has threads.  Useful for long runs of few programs.

    Args:
      devices: the folder in which Linux shows accelerators.  With one, the host's memory is needed
        for checkpoints only, and is returned to the system after them.

    Returns:
      Whether freed memory is kept.
    """
    return _should_keep(os.environ, devices) and _keep()


def return_working_memory() -> None:
    """Undoes `keep_working_memory`, for images so large that memory is scarcer than time."""
    global _kept
    if not _kept:
        return
    import ctypes

    libc = ctypes.CDLL(None)
    for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        libc.mallopt(name, _RETURNED)
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    libc.malloc_trim(0)
    _kept = False


def _should_keep(environment: Mapping[str, str], devices: Path) -> bool:
    if "glibc.malloc." in environment.get("GLIBC_TUNABLES", ""):
        return False  # the user has decided
    return environment.get("JAX_PLATFORMS") == "cpu" or not _has_accelerator(devices)


def _has_accelerator(devices: Path) -> bool:
    patterns = ("nvidia[0-9]*", "accel*", "vfio/[0-9]*", "kfd")
    return any(any(devices.glob(pattern)) for pattern in patterns)


def _keep() -> bool:
    global _kept
    import ctypes

    if "glibc" not in (_libc_version() or ""):
        return False
    libc = ctypes.CDLL(None)
    settings = {
        _M_ARENA_MAX: 1,  # only the main heap can grow beyond 64 MiB
        _M_MMAP_THRESHOLD: _UNLIMITED,  # large blocks come from the heap, too
        _M_TRIM_THRESHOLD: _UNLIMITED,  # and the heap never shrinks
    }
    if not all(libc.mallopt(name, value) for name, value in settings.items()):
        return False
    _kept = True
    # Grow the heap once to ask for large pages in it.  Memory that is not touched costs nothing.
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, _LARGEST_HEAP)
    block = libc.malloc(size)
    if block:
        start = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        length = (block + size - start) // _HUGE_PAGE * _HUGE_PAGE
        libc.madvise(start, length, _MADV_HUGEPAGE)  # without such pages it is only slower
        libc.free(block)
    return True


def _libc_version() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # another C library
        return None
