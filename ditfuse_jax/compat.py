"""Private parts of JAX and orbax that this package depends on.

No other module uses `jax._src` or reads the files of an orbax checkpoint.  `tests/test_compat.py`
checks each part and names the installed version when one has changed.
"""

import contextlib
import importlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import tensorstore


_Result = TypeVar("_Result")


class DistributedState(Protocol):
    """What `jax.distributed.initialize` has set up; `client` is None before it."""

    client: Any
    process_id: int
    num_processes: int


def cuda_plugin_is_installed() -> bool:
    """Whether this process can trace calls of cuDNN."""
    return _private("jax._src.cudnn.fused_attention_stablehlo", "cuda_versions") is not None


def distributed_state() -> DistributedState:
    """Returns JAX's view of the processes; its `client` reaches their common key-value store."""
    return _private("jax._src.distributed", "global_state")


def backends_are_initialized() -> bool:
    """Whether JAX has already opened the devices."""
    return _private("jax._src.xla_bridge", "backends_are_initialized")()


def with_settings_of_this_thread(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Returns a function that another thread runs with JAX's settings of this one.

    JAX keeps the settings of contexts, such as `with jax.default_matmul_precision("highest")`, for
    the thread that entered them.
    """
    holders = _private("jax._src.config", "config")._value_holders.values()
    with_contexts = [holder for holder in holders if hasattr(holder, "get_global")]
    here = [(h, h.value) for h in with_contexts if h.value != h.get_global()]

    def run(*args: Any) -> _Result:
        with contextlib.ExitStack() as stack:
            for holder, value in here:
                stack.enter_context(holder(value))
            return function(*args)

    return run


def open_orbax_array(item: Path, path: Sequence[str]) -> "tensorstore.TensorStore":
    """Opens one array of an orbax item, so that slices of it can be read.

    Orbax itself reads whole arrays and holds each twice meanwhile.  The layout is that of orbax's
    checkpoint format guide (https://orbax.readthedocs.io/en/latest/guides/checkpoint/checkpoint_format.html).

    Args:
      item: folder of the item, like `checkpoints/1000/params`.
      path: keys of the array in the nested dict.

    Raises:
      ValueError: there is no such array, or its data cannot be read.
      OSError: the item's metadata cannot be read.
    """
    import tensorstore

    name = f"{'.'.join(path)}/"
    folder = str(item) if "://" in str(item) else f"file://{item.absolute()}"
    store: Any = f"{folder}/{name}"
    if (item / "manifest.ocdbt").exists():
        store = {"driver": "ocdbt", "base": f"{folder}/", "path": name}
    metadata = json.loads((item / "_METADATA").read_text(encoding="utf-8"))
    driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
    return tensorstore.open({"driver": driver, "kvstore": store}, open=True, read=True).result()


def orbax_tree(checkpoint: Path) -> Path:
    """Returns the item with the arrays in a checkpoint of `orbax.checkpoint.experimental.v1`."""
    item = checkpoint / "state"
    if not (item / "_METADATA").is_file():
        version = importlib.metadata.version("orbax-checkpoint")
        raise RuntimeError(
            f"orbax-checkpoint {version} writes no {item}, which ditfuse_jax.compat uses: install "
            "the version of constraints.txt"
        )
    return item


def _private(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        version = importlib.metadata.version("jax")
        raise RuntimeError(
            f"jax {version} has no {module}.{name}, which ditfuse_jax.compat uses: install the "
            "version of constraints.txt"
        ) from error
