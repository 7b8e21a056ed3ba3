"""Private parts of JAX and orbax: a failure here names the version that has changed them."""

import importlib
import importlib.metadata
import importlib.util
import re
import threading
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import orbax.checkpoint.experimental.v1 as experimental
import pytest

from ditfuse_jax import compat

ROOT = Path(__file__).parents[1]
JAX = f"changed in jax {importlib.metadata.version('jax')}: adapt ditfuse_jax/compat.py"
ORBAX = (
    f"changed in orbax-checkpoint {importlib.metadata.version('orbax-checkpoint')}: "
    "adapt ditfuse_jax/compat.py"
)


def test_jax_tells_whether_its_cuda_plugin_is_installed():
    plugins = [importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)]
    assert compat.cuda_plugin_is_installed() == any(plugins), JAX


def test_jax_holds_the_client_of_the_process_group():
    state = compat.distributed_state()
    assert state.client is None, JAX
    assert (state.process_id, state.num_processes) == (0, 1), JAX
    client = importlib.import_module("jax._src.lib")._jax.DistributedRuntimeClient
    used = {"key_value_set", "key_value_dir_get", "wait_at_barrier"}
    assert used <= set(dir(client)), JAX


def test_jax_tells_whether_the_devices_are_open():
    jax.devices()
    assert compat.backends_are_initialized() is True, JAX


def test_jax_hashes_devices_into_the_key_of_a_compiled_program():
    """`tests/train/conftest.py` replaces one hash by the other."""
    cache_key = importlib.import_module("jax._src.cache_key")
    assert callable(cache_key._hash_devices), JAX
    assert callable(cache_key._hash_accelerator_config), JAX


def test_another_thread_runs_with_the_settings_of_this_one():
    def settings() -> None:
        found.append({name: str(value) for name, value in jax.config.values.items()})

    found = []
    second = jax.devices()[-1]
    with jax.default_matmul_precision("highest"), jax.default_device(second), jax.debug_nans(True):
        settings()
        thread = threading.Thread(target=compat.with_settings_of_this_thread(settings))
        thread.start()
        thread.join()
    settings()
    assert found[1] == found[0], JAX
    assert found[2] != found[0]


def test_every_setting_of_jax_can_be_entered_again_with_its_value():
    for holder in importlib.import_module("jax._src.config").config._value_holders.values():
        if hasattr(holder, "get_global"):
            with holder(holder.value):
                pass


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("zarr3", [True, False])
def test_slices_of_arrays_are_read_from_orbaxs_files(tmp_path, ocdbt, zarr3):
    values = np.arange(24, dtype="f4").reshape(4, 6)
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "item", {"layers": {"kernel": values}})
    try:
        array = compat.open_orbax_array(tmp_path / "item", ("layers", "kernel"))
        read = np.asarray(array[1:3].read().result())
    except (ValueError, OSError) as error:
        pytest.fail(f"{ORBAX} ({error})")
    np.testing.assert_array_equal(read, values[1:3], ORBAX)


def test_orbax_writes_the_arrays_of_a_partial_checkpoint_into_one_item(tmp_path):
    values = np.arange(6, dtype="f4")
    experimental.partial.save(str(tmp_path / "part"), {"kernel": jax.numpy.asarray(values)})
    experimental.partial.finalize(str(tmp_path / "part"))
    item = compat.orbax_tree(tmp_path / "part")
    found = np.asarray(compat.open_orbax_array(item, ("kernel",)).read().result())
    np.testing.assert_array_equal(found, values, ORBAX)
    with pytest.raises(RuntimeError, match=r"orbax-checkpoint .* writes no"):
        compat.orbax_tree(tmp_path)


def test_a_missing_private_name_is_reported_with_the_installed_version():
    version = re.escape(importlib.metadata.version("jax"))
    with pytest.raises(RuntimeError, match=rf"jax {version} has no jax._src.nothing.here"):
        compat._private("jax._src.nothing", "here")


def test_only_compat_uses_private_parts():
    pattern = re.compile(
        r"jax\._src|from jax import _src|manifest\.ocdbt|\W_METADATA\W|/ \"state\""
    )
    for path in (ROOT / "ditfuse_jax").rglob("*.py"):
        if path != ROOT / "ditfuse_jax" / "compat.py":
            assert not pattern.search(path.read_text(encoding="utf-8")), path
