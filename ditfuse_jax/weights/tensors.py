"""Safetensors files, read and written one tensor at a time.

Files are read by seeking, not memory-mapped, so a 15 GB checkpoint needs no more memory than its
largest tensor.  Format (github.com/huggingface/safetensors): the header's length as 8 bytes,
little-endian; a JSON header with type, shape and byte range of every tensor; the bytes.
"""

import json
import math
import os
import struct
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import read_range
from ditfuse_jax.paths import as_path, is_remote

DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
}
# Of quantised kernels; see `model.quantization`.
_CODES, _CODE_DTYPES = ".codes", {"I8": np.dtype(np.int8), "U8": np.dtype(np.uint8)}
_NAMES = {dtype: name for name, dtype in (DTYPES | _CODE_DTYPES).items()}

# Names of the file that is opened in a folder, in order of preference.
KNOWN_TENSORS = ("model", "diffusion_pytorch_model", "adapter_model")
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_REMEDY = (
    'python -c "import torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in '
    "torch.load('{name}', weights_only=True).items()}}, 'model.safetensors')\""
)

# Of DistributedDataParallel and DataParallel, torch.compile, FullyShardedDataParallel.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")

# Real headers are much smaller; the first bytes of a wrong file usually mean a larger one.
_LONGEST_HEADER = 100 << 20


class Tensors:
    """Named tensors of one file or of several shards, read on demand."""

    def __init__(self, entries: Mapping[str, "_Entry"], path: Path):
        self._entries = dict(entries)
        self.path = path

    @property
    def files(self) -> frozenset[Path]:
        """All files that hold tensors."""
        return frozenset(entry.file for entry in self._entries.values())

    @property
    def names(self) -> frozenset[str]:
        """Names of all tensors."""
        return frozenset(self._entries)

    def metadata(self) -> dict[str, str]:
        """Returns the strings in the headers of the files."""
        found: dict[str, str] = {}
        for path in sorted(self.files):
            size = int.from_bytes(read_range(path, 0, 8), "little")
            header = json.loads(read_range(path, 8, 8 + size))
            found |= header.get("__metadata__") or {}
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return self._entries[name].shape

    def dtype(self, name: str) -> np.dtype:
        """Returns the stored type of a tensor.

        Raises:
          UserError: it is not one of `DTYPES`.
        """
        entry = self._entries[name]
        known = DTYPES | _CODE_DTYPES if name.endswith(_CODES) else DTYPES
        if entry.dtype not in known:
            raise UserError(
                f"{entry.file}: tensor {name} has type {entry.dtype}; only "
                f"{', '.join(DTYPES)} can be used: convert the file to one of them"
            )
        return known[entry.dtype]

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Reads a tensor, or some rows of its first axis, into new memory.

        Raises:
          UserError: the type is not supported, or the file cannot be read.
        """
        entry, dtype = self._entries[name], self.dtype(name)
        shape, start = entry.shape, entry.start
        if rows is not None:
            first, last, step = rows.indices(shape[0])
            assert step == 1
            row = math.prod(shape[1:]) * dtype.itemsize
            shape, start = (max(last - first, 0), *shape[1:]), start + first * row
        out = np.empty(shape, dtype)
        try:
            if is_remote(entry.file):
                data = read_range(entry.file, start, start + out.nbytes)
                if len(data) < out.nbytes:
                    raise UserError(f"{entry.file} ends within tensor {name}: get it again")
                out.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
                return out
            with entry.file.open("rb", buffering=0) as file:
                file.seek(start)
                view = out.reshape(-1).view(np.uint8).data
                while len(view):
                    count = file.readinto(view)
                    if not count:
                        raise UserError(f"{entry.file} ends within tensor {name}: get it again")
                    view = view[count:]
        except OSError as error:
            raise UserError(f"cannot read {entry.file}: {error.strerror}") from error
        return out


class _Entry:
    """Location of one tensor."""

    def __init__(self, file: Path, dtype: str, shape: tuple[int, ...], start: int):
        self.file, self.dtype, self.shape, self.start = file, dtype, shape, start


def open_tensors(path: Path | str) -> Tensors:
    """Opens a `.safetensors` file, or a folder with one or with a sharded index.

    What PyTorch's wrappers add to names (`module.`, `_orig_mod.`, `_fsdp_wrapped_module.`) is
    dropped.

    Raises:
      UserError: nothing is there, it is damaged, it is a pickle, or two names differ only in their
        wrappers.
    """
    path = as_path(path)
    if path.suffix in PICKLES:
        raise _pickle(path)
    if path.is_dir():
        path = find_tensors(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    sharded = path.name.endswith(".index.json")
    return Tensors(_unwrapped(_read_index(path) if sharded else _read_header(path), path), path)


def find_tensors(folder: Path) -> Path:
    """Returns the file, or the index of shards, to open for the tensors of a folder.

    Raises:
      UserError: there is none, or several and no index.
    """
    for name in KNOWN_TENSORS:
        for suffix in (".safetensors", ".safetensors.index.json"):
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{folder} holds {len(found)} safetensors files and no index: name one of them"
        )
    pickles = sorted(p for p in folder.glob("*") if p.suffix in PICKLES)
    if pickles:
        raise _pickle(pickles[0])
    raise UserError(f"{folder} holds no safetensors file: is it the folder of a model?")


def write_safetensors(
    path: Path,
    specs: Mapping[str, tuple[Any, tuple[int, ...]]],
    read: Callable[[str], np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a file, one tensor at a time, under a temporary name that is renamed at the end.

    Args:
      path: the file.
      specs: name -> type and shape, in the order of writing.
      read: returns the tensor of a name.
      metadata: strings of the header.

    Raises:
      UserError: the file cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in specs.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _NAMES[np.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(struct.pack("<Q", len(text)) + text)
                for name, (dtype, shape) in specs.items():
                    tensor = np.ascontiguousarray(read(name))
                    if (tensor.dtype, tensor.shape) != (np.dtype(dtype), tuple(shape)):
                        raise ValueError(
                            f"{name} is {tensor.dtype}{tensor.shape}, not {dtype}{shape}"
                        )
                    file.write(tensor.reshape(-1).view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error


def _unwrapped(entries: Mapping[str, _Entry], path: Path) -> dict[str, _Entry]:
    """Returns the entries under the names of the modules inside PyTorch's wrappers."""
    found: dict[str, _Entry] = {}
    for name, entry in entries.items():
        plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if plain in found:
            raise UserError(
                f"{path} holds tensor {plain} twice, with and without {' or '.join(_WRAPPERS)} in "
                "its name: save one of them"
            )
        found[plain] = entry
    return found


def _read_index(path: Path) -> dict[str, _Entry]:
    try:
        names: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
            raise ValueError("its weight_map does not name a file for each tensor")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not an index of shards: {error}") from error
    entries: dict[str, _Entry] = {}
    for shard in sorted(set(names.values())):
        file = path.parent / shard
        if not file.is_file():
            raise UserError(f"{path} names the shard {shard}, which is missing: get it again")
        held = _read_header(file)
        for name in (name for name, where in names.items() if where == shard):
            if name not in held:
                raise UserError(f"{file} lacks tensor {name}, which {path.name} lists")
            entries[name] = held[name]
    return entries


def _read_header(path: Path) -> dict[str, _Entry]:
    """Returns name -> location, checked against the file's length."""
    try:
        length = path.stat().st_size
        start = read_range(path, 0, min(8, length)) if length else b""
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else length
        if size > min(length - 8, _LONGEST_HEADER):
            raise UserError(f"{path} is not a safetensors file or is truncated: get it again")
        header = json.loads(read_range(path, 8, 8 + size))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # JSON or UTF-8
        raise UserError(f"{path} has an unreadable header ({error}): get it again") from error
    entries: dict[str, _Entry] = {}
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            shape = tuple(int(n) for n in entry["shape"])
            if 8 + size + end > length:
                raise UserError(
                    f"{path} is truncated: tensor {name} ends at byte {8 + size + end}, the file "
                    f"at {length}; get it again"
                )
            dtype = entry["dtype"]
            known = (DTYPES | _CODE_DTYPES).get(dtype)
            if known is not None and end - begin != math.prod(shape) * known.itemsize:
                raise UserError(
                    f"{path}: the byte range of tensor {name} does not fit its shape {shape}"
                )
            entries[name] = _Entry(path, dtype, shape, 8 + size + begin)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} has an unreadable header ({error!r}): get it again") from error
    return entries


def _pickle(path: Path) -> UserError:
    return UserError(
        f"{path} is a pickle, and reading a pickle runs the code in it; if you trust it, convert "
        f"it to safetensors: {_REMEDY.format(name=path.name)}"
    )
