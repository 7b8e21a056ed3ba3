"""Compilation of traced programs, with a cache of the results.

JAX's own cache stores executables, which cannot be loaded without the device.  This one stores the
optimised program as text and its memory sizes.
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
from ditfuse_jax.parallel.compiler_options import compile_with_options

_PACKAGES = ("jax", "jaxlib", "libtpu")
# Lowest effort of XLA: compiles several times faster; the programs are the same or slightly worse.
_LOW_EFFORT = {"exec_time_optimization_effort": -1.0, "memory_fitting_effort": -1.0}


@dataclasses.dataclass(frozen=True)
class Compilation:
    """Result of a compilation.

    Attributes:
      hlo: the optimised program; empty if it does not fit into memory.
      bytes: bytes per device by kind: argument, output, alias (outputs that reuse arguments), temp
        and generated_code.
      xla_flops: XLA's own FLOP count, in which a loop's body counts once.
      out_of_memory: the compiler's message if the program does not fit, else empty.
      seconds: compilation time.
      cached: whether the result was read from the cache.
    """

    hlo: str
    bytes: dict[str, int]
    xla_flops: float
    out_of_memory: str
    seconds: float
    cached: bool = False

    @property
    def total_bytes(self) -> int:
        """Bytes of memory that a device needs while the program runs."""
        sizes = self.bytes
        return sum(sizes.values()) - 2 * sizes.get("alias", 0)


def cache_folder() -> Path:
    """Returns the default cache folder, inside that of JAX's compilation cache."""
    return compilation_cache() / "aot"


def compile_lowered(
    lowered: jax.stages.Lowered,
    target: str,
    folder: Path,
    *,
    low_effort: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Compilation:
    """Compiles a program, or returns the cached result of the same program, target and compiler.

    Args:
      lowered: the traced program.
      target: name of the devices, e.g. "v6e:16x16".
      folder: cache folder.
      low_effort: use the compiler's lowest instead of its default effort.
      options: further options of the compiler; see `parallel.compiler_options`.

    Raises:
      UserError: the compiler fails for a reason other than memory, or refuses an option.
    """
    options = (_LOW_EFFORT if low_effort else {}) | dict(options or {})
    path = folder / f"{program_key(lowered, target, options)}.json.z"
    found = _read_cached(path)
    if found:
        return found
    started = time.perf_counter()
    config: Any = jax.config
    caching = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    try:
        done = _measure(compile_with_options(lowered, options), started)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            reason = str(error).splitlines()[0]
            raise UserError(f"{target}: the compiler fails ({reason})") from error
        done = Compilation("", {}, 0.0, str(error), time.perf_counter() - started)
    finally:
        config.update("jax_enable_compilation_cache", caching)
    make_folder(folder)
    write_bytes(path, zlib.compress(json.dumps(dataclasses.asdict(done)).encode(), 6))
    return done


def program_key(lowered: jax.stages.Lowered, target: str, options: Mapping[str, Any]) -> str:
    """Returns the SHA-256 hex digest of program, target, compiler versions and options."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
    text = json.dumps([target, versions, flags, dict(options), lowered.as_text()])
    return hashlib.sha256(text.encode()).hexdigest()


def _measure(compiled: jax.stages.Compiled, started: float) -> Compilation:
    seconds = time.perf_counter() - started
    sizes = compiled.memory_analysis()
    if sizes is None:
        raise UserError("this compiler does not report a program's memory")
    kinds = ("argument", "output", "alias", "temp", "generated_code")
    cost = compiled.cost_analysis() or {}
    return Compilation(
        hlo=compiled.as_text() or "",
        bytes={kind: int(getattr(sizes, f"{kind}_size_in_bytes")) for kind in kinds},
        xla_flops=float(cost.get("flops", 0.0)),
        out_of_memory="",
        seconds=seconds,
    )


def _read_cached(path: Path) -> Compilation | None:
    try:
        values = json.loads(zlib.decompress(path.read_bytes()))
        return Compilation(**values | {"cached": True})
    except (OSError, ValueError, TypeError, zlib.error):
        return None  # absent, or written by another version
