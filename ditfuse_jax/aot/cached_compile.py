"""Compiling a traced program, or recalling what the compiler said of the very same program.

JAX's own cache keeps executables, which cannot be loaded where there is no such device.  What this
command needs of one is its optimised program and its sizes, so these are kept.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import compilation_cache, make_folder, write_bytes

_PACKAGES = ("jax", "jaxlib", "libtpu")
# XLA's least effort: it compiles several times faster to a program that is, if anything, worse.
_QUICK = {"exec_time_optimization_effort": -1.0, "memory_fitting_effort": -1.0}
# Of v7x, libtpu 0.0.42 ends with a failed check when it puts a collective on the sparse cores.
_OPTIONS = {
    "v7x": {
        f"xla_tpu_enable_sparse_core_collective_offload_{kind}": "false"
        for kind in ("all_reduce", "reduce_scatter", "all_gather")
    }
}


@dataclasses.dataclass(frozen=True)
class Compilation:
    """What the compiler said.

    Attributes:
      hlo: the optimised program; empty if it was refused.
      bytes: per device, by kind: argument, output, alias (outputs that reuse arguments), temp and
        generated_code.
      xla_flops: XLA's own count, in which a loop's body counts once.
      out_of_memory: why there is none: it needs more memory than there is; empty otherwise.
      seconds: that compiling took.
      cached: it was compiled before.
    """

    hlo: str
    bytes: dict[str, int]
    xla_flops: float
    out_of_memory: str
    seconds: float
    cached: bool = False

    @property
    def total_bytes(self) -> int:
        """What a device holds while the program runs."""
        sizes = self.bytes
        return sum(sizes.values()) - 2 * sizes.get("alias", 0)


def cache_folder() -> Path:
    """Beside JAX's own compiled programs."""
    return compilation_cache() / "aot"


def compile_lowered(
    lowered: jax.stages.Lowered, target: str, folder: Path, *, low_effort: bool = False
) -> Compilation:
    """Compiles, unless the same program was compiled for the same target by the same compiler.

    Args:
      lowered: the traced program.
      target: names the devices.
      folder: where results are kept.
      low_effort: with the compiler's least effort instead of its usual one.

    Raises:
      UserError: the compiler fails for another reason than memory.
    """
    options: dict[str, Any] = dict(_QUICK) if low_effort else {}
    options |= _OPTIONS.get(target.partition(":")[0].split()[-1], {})
    path = folder / f"{program_key(lowered, target, options)}.json.z"
    found = _recall(path)
    if found:
        return found
    started = time.perf_counter()
    config: Any = jax.config
    caching = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    try:
        done = _examine(lowered.compile(compiler_options=options), started)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            reason = str(error).splitlines()[0]
            raise UserError(f"{target}: the compiler gives up ({reason})") from error
        done = Compilation("", {}, 0.0, str(error), time.perf_counter() - started)
    finally:
        config.update("jax_enable_compilation_cache", caching)
    make_folder(folder)
    write_bytes(path, zlib.compress(json.dumps(dataclasses.asdict(done)).encode(), 6))
    return done


def program_key(lowered: jax.stages.Lowered, target: str, options: Mapping[str, Any]) -> str:
    """SHA-256 of the program's text, its target and the compiler's versions and options."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    text = json.dumps([target, versions, flags, dict(options), lowered.as_text()])
    return hashlib.sha256(text.encode()).hexdigest()


def _examine(compiled: jax.stages.Compiled, started: float) -> Compilation:
    seconds = time.perf_counter() - started
    sizes = compiled.memory_analysis()
    if sizes is None:
        raise UserError("this compiler does not tell what memory a program needs")
    kinds = ("argument", "output", "alias", "temp", "generated_code")
    cost = compiled.cost_analysis() or {}
    return Compilation(
        hlo=compiled.as_text() or "",
        bytes={kind: int(getattr(sizes, f"{kind}_size_in_bytes")) for kind in kinds},
        xla_flops=float(cost.get("flops", 0.0)),
        out_of_memory="",
        seconds=seconds,
    )


def _recall(path: Path) -> Compilation | None:
    try:
        values = json.loads(zlib.decompress(path.read_bytes()))
        return Compilation(**values | {"cached": True})
    except (OSError, ValueError, TypeError, zlib.error):
        return None  # not there, or written by another version
