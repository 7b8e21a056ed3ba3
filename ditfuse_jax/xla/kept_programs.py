"""Compiled programs that are kept on disk and loaded without being traced.

JAX's persistent cache saves the compilation, but JAX must trace and lower a program before it finds
it there, which takes longer than everything else that a short command does.  Here the key of a
program is what it is made from: the code of this package, the model, and the types of the
arguments.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.experimental import serialize_executable

from ditfuse_jax.compat import with_settings_of_this_thread
from ditfuse_jax.extensions import loaded_extensions
from ditfuse_jax.files import PROGRAMS_VARIABLE, write_bytes
from ditfuse_jax.registry import extended_from_outside
from ditfuse_jax.xla.jax_cache import WITHOUT_JAX_CACHE
from ditfuse_jax.xla.user_flags import ENVIRONMENT

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")
# Settings of JAX that name places, not what is computed.
_PLACES = ("cache", "log", "dump", "profile", "traceback")

_PACKAGE = Path(__file__).parents[1]

# Days for which files that are not used are kept; `.tmp` is left where a process was killed.
_KEPT_DAYS = {".bin": 30, ".json": 30, ".tmp": 1}

_unusable: set[Path] = set()  # folders that could not be written
_lock = threading.Lock()  # of `_loaded`


class _Loading:
    """A program that is read, or traced and compiled, perhaps by another thread.

    Attributes:
      types: what it returns, as `jax.ShapeDtypeStruct`.
      program: takes the arguments.
    """

    def __init__(self) -> None:
        self.types: Future[Any] = Future()
        self.program: Future[Callable[..., Any]] = Future()


_loaded: dict[str, _Loading] = {}


class KeptProgram:
    """A jitted function whose compiled programs are kept on disk.

    They are kept in the folder that the environment variable `DITFUSE_PROGRAMS` names, which the
    command `ditfuse` sets to a folder in the user's cache.  Without it, with several processes, and
    with extensions, whose code the key does not cover, this is the jitted function.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *parts: object,
        options: Callable[[], dict[str, Any]] = dict,
    ):
        """Wraps a function.

        Args:
          function: for one process and unsharded arrays; not jitted.
          parts: all that it computes with besides its arguments; their `repr` is part of the key.
          options: returns XLA's compiler options; called when something is compiled.
        """
        self._function = function
        self._options = options
        self._parts = "\n".join(map(repr, parts))
        self._signatures: dict[Any, str] = {}

    def __call__(self, *args: Any) -> Any:
        """Calls the function."""
        leaves, structure = jax.tree.flatten(args)
        if any(isinstance(x, Tracer) for x in leaves):
            return self._function(*args)
        folder = programs_folder()
        if folder is None or not _run_on_first_device(leaves):
            return self._jitted(*args)
        key = self._key(leaves, structure)
        return self._find(folder / f"{key}.bin", args).program.result()(*args)

    def prepare(self, *args: Any) -> Any:
        """Reads the program for arguments of these types, or traces it and begins to compile it.

        Args:
          args: arrays, or `jax.ShapeDtypeStruct` in their place.

        Returns:
          What it returns, as `jax.ShapeDtypeStruct`; None if no program is kept for them.
        """
        folder = programs_folder()
        leaves, structure = jax.tree.flatten(args)
        if folder is None or not _run_on_first_device(leaves):
            return None
        key = self._key(leaves, structure)
        return self._find(folder / f"{key}.bin", args, wait=False).types.result()

    @functools.cached_property
    def _jitted(self) -> Any:
        return jax.jit(self._function, compiler_options=self._options() or None)

    def _key(self, leaves: list[Any], structure: Any) -> str:
        types = tuple((x.shape, x.dtype) for x in leaves)
        signature = structure, types, _settings()
        key = self._signatures.get(signature)
        if key is None:
            named = tuple((shape, np.dtype(dtype).name) for shape, dtype in types)
            key = self._signatures[signature] = key_of(self._parts, structure, named, _settings())
        return key

    def _find(self, path: Path, args: Any, wait: bool = True) -> _Loading:
        """Returns the program of a file; `wait`: compiles in this thread if it has to."""
        with _lock:
            found = _loaded.get(path.stem)
            if found is not None:
                return found
            loading = _loaded[path.stem] = _Loading()

        def fail(error: BaseException) -> None:
            with _lock:
                _loaded.pop(path.stem, None)  # the next call tries again
            for future in (loading.types, loading.program):
                if not future.done():
                    future.set_exception(error)

        def build(lowered: jax.stages.Lowered) -> None:
            try:
                program = _compile(lowered)
                if not _write(path, program):
                    _unusable.add(path.parent)  # JAX's own cache is used from now on
                loading.program.set_result(program)
            except BaseException as error:
                fail(error)

        try:
            kept = _read(path)
            if kept is not None:
                loading.types.set_result(kept.out_info)
                loading.program.set_result(kept)
                return loading
            lowered = self._jitted.lower(*args)
            loading.types.set_result(lowered.out_info)
        except BaseException as error:
            fail(error)
            return loading
        if wait:
            build(lowered)
        else:
            target = with_settings_of_this_thread(build)
            threading.Thread(target=target, args=(lowered,), name="compile").start()
        return loading


def free_loaded() -> None:
    """Drops the programs that are in memory; they are read again when they are needed."""
    with _lock:
        _loaded.clear()


def key_of(*parts: object) -> str:
    """Returns the name of what is computed from these parts by this code on this device."""
    text = "\n".join([*map(repr, parts), repr(_settings()), _environment()])
    return hashlib.sha256(text.encode()).hexdigest()


def programs_folder() -> Path | None:
    """Returns the folder of the programs; None if none are to be kept."""
    folder = os.environ.get(PROGRAMS_VARIABLE)
    if not folder or extended_from_outside() or loaded_extensions() or jax.process_count() > 1:
        return None
    return None if Path(folder) in _unusable else Path(folder)


def _compile(lowered: jax.stages.Lowered) -> Any:
    """Compiles; without JAX's cache on CPUs, where a program from it is not serialised in full."""
    if jax.local_devices()[0].platform != "cpu":
        return lowered.compile()
    with WITHOUT_JAX_CACHE:
        return lowered.compile()


def _read(path: Path) -> Any | None:
    try:
        content = pickle.loads(path.read_bytes())
        devices = jax.local_devices()[:1]
        program = serialize_executable.deserialize_and_load(*content, execution_devices=devices)
        os.utime(path)  # `_prune` removes what was not used for long
        return program
    except Exception:  # no file, a damaged one, or another machine's: the program is compiled
        return None


def _write(path: Path, program: Any) -> bool:
    """Keeps a program; returns whether that succeeded."""
    try:
        content = pickle.dumps(serialize_executable.serialize(program))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except Exception:  # a full disk, or a backend that cannot serialise: nothing is kept
        return False
    with contextlib.suppress(OSError):  # what was written is good all the same
        _prune(path.parent)
    return True


def _prune(folder: Path) -> None:
    """Removes what was not used for a month, such as programs of earlier versions."""
    now = time.time()
    for path in folder.iterdir():
        days = _KEPT_DAYS.get(path.suffix)
        if days is None:
            continue
        with contextlib.suppress(FileNotFoundError):  # another thread or process was faster
            if path.stat().st_mtime < now - days * 86_400:
                path.unlink()


def _run_on_first_device(leaves: Iterable[Any]) -> bool:
    """Whether JAX computes with these arguments on the first device, which kept programs are for.

    Arrays that were put on a device decide it, and without any the context `jax.default_device`.
    """
    first, decided = jax.local_devices()[0], False
    for array in leaves:
        if isinstance(array, jax.Array):
            if array.devices() != {first}:
                return False
            decided = decided or array.committed
        elif not isinstance(array, np.ndarray | np.generic | jax.ShapeDtypeStruct):
            return False
    if decided:
        return True
    default = jax.config.values["jax_default_device"]
    if isinstance(default, str):  # the name of a platform
        default = jax.local_devices(backend=default)[0]
    return default in (None, first)


def _settings() -> tuple[tuple[str, str], ...]:
    """Returns JAX's settings, which may change within a process."""
    global _texts
    values = dict(jax.config.values)
    before, texts = _texts
    if values != before:  # else every call would spend two milliseconds here
        texts = tuple(
            (name, str(value))
            for name, value in sorted(values.items())
            if not any(word in name for word in _PLACES)
        )
        _texts = values, texts
    return texts


_texts: tuple[dict[str, Any], tuple[tuple[str, str], ...]] = {}, ()


@functools.cache
def _environment() -> str:
    """All that decides how a function is compiled and does not change within a process."""
    device = jax.local_devices()[0]
    parts = [
        *(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES),
        sys.version,
        _code(),
        device.platform,
        device.device_kind,
        getattr(device.client, "platform_version", ""),
        platform.machine(),
        _cpu_features(),
        str(jax.local_device_count()),
        *(f"{name}={os.environ.get(name, '')}" for name in ENVIRONMENT),
    ]
    return "\n".join(parts)


def _code() -> str:
    """Returns a digest of this package's code: of names and contents, as times may be equal."""
    digest = hashlib.sha256(str(_PACKAGE).encode())
    for folder, folders, names in os.walk(_PACKAGE):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = Path(folder, name)
                digest.update(f"\n{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _cpu_features() -> str:
    """Returns what tells a program's instruction sets apart: a cache may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
