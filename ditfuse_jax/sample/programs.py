"""Compiled programs are forgotten before they take more memory maps than Linux allows.

On CPUs a compiled sampler takes about 1,500 maps of a process, which may have 65,530.  Images of
some forty sizes that are not cut into tiles, each with a sampler of its own, reach that, and the
compiler ends the process: "LLVM ERROR: Unable to allocate section memory!".
"""

import gc
from pathlib import Path

import jax

_MAPS, _MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_FULL = 0.6  # of what is allowed; one more image must fit


def make_room_for_programs(maps: Path = _MAPS, most: Path = _MOST) -> bool:
    """Forgets all compiled programs if many maps are taken; those needed again are compiled again.

    With JAX's persistent cache, which our commands use, they are read from there.

    Args:
      maps: a file with a line for each map of this process.
      most: a file with the number of them that the kernel allows.

    Returns:
      Whether it did; never where the kernel does not tell.
    """
    try:
        taken, allowed = maps.read_bytes().count(b"\n"), int(most.read_text())
    except (OSError, ValueError):  # not Linux
        return False
    if taken < _FULL * allowed:
        return False
    jax.clear_caches()
    gc.collect()
    return True
