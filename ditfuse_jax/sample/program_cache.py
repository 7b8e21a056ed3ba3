"""Drops compiled programs before they use up the memory maps of the process.

On CPUs a compiled sampler takes about 1,500 memory maps, and Linux allows a process 65,530.  Some
forty image sizes that are not cut into tiles, each with its own sampler, reach that limit, and the
compiler aborts the process: "LLVM ERROR: Unable to allocate section memory!".
"""

import gc
from pathlib import Path

import jax

from ditfuse_jax.xla.kept_programs import free_loaded

_MAPS, _MAX_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_FULL = 0.6  # share of the limit; the programs for one more image must fit into the rest


def free_compiled_programs(maps: Path = _MAPS, max_maps: Path = _MAX_MAPS) -> bool:
    """Drops all compiled programs if many memory maps are in use.

    Programs that are needed again are compiled again, or read from JAX's persistent cache, which
    the command line turns on.

    Args:
      maps: a file with one line per memory map of this process.
      max_maps: a file with the number of maps that the kernel allows.

    Returns:
      Whether programs were dropped; always False where the kernel has no such files.
    """
    try:
        used, allowed = maps.read_bytes().count(b"\n"), int(max_maps.read_text())
    except (OSError, ValueError):  # not Linux
        return False
    if used < _FULL * allowed:
        return False
    free_loaded()
    jax.clear_caches()
    gc.collect()
    return True
