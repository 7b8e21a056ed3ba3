"""Writing weights or an adapter as a run folder without training."""

import gc
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from flax import traverse_util
from ml_collections import ConfigDict

from ditfuse_jax import compat
from ditfuse_jax.convert.output import copy_companions, fingerprint_of, new_folder, progress_bar
from ditfuse_jax.files import write_text
from ditfuse_jax.model import RUNTIME_FIELDS
from ditfuse_jax.paths import is_remote
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.train.checkpoint import Checkpoints, write_errors
from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.recipe import Config, default_config, to_json
from ditfuse_jax.weights import Checkpoint, open_adapter
from ditfuse_jax.weights.bundle import without_paths
from ditfuse_jax.weights.checkpoint import ParameterPath
from ditfuse_jax.weights.quantized import QUANTIZED, quantize_checkpoint
from ditfuse_jax.weights.run import AUTOENCODER, TOKENIZER
from ditfuse_jax.weights.run_paths import CHECKPOINTS, COMMITTED, PARAMETERS, check_storage

# Largest chunk of an array; a stack of layers in one chunk would be copied as a whole.
_CHUNK_BYTES = 16 << 20

# Parameters are saved in groups of this size: each save takes .1 s, however small.
_GROUP_BYTES = 64 << 20


def write_run(
    checkpoint: Checkpoint, output: Path, *, quiet: bool = False, portable: bool = False
) -> None:
    """Writes a run folder: parameters, config, autoencoder and tokenizer, but no training state.

    Of adapters only these are written; the config names the weights under them.

    Args:
      checkpoint, output, quiet: see `convert.layouts.LayoutWriter`.
      portable: for other machines: the config names no folder of this one, see `without_paths`,
        and of local weights under adapters only the name.

    Raises:
      UserError: the folder exists or cannot be written; nothing is left then.
    """
    check_storage(output)
    if checkpoint.lora:
        _write_adapter(checkpoint, output, portable)
        return
    config: Config = _config(checkpoint)
    if portable:
        config = ConfigDict(without_paths(config.to_dict()))
    shapes = checkpoint.shapes()
    with new_folder(output) as folder, progress_bar(checkpoint, quiet) as bar:
        _save_config(folder, config, checkpoint)
        part = folder / "part"
        for paths in _groups(shapes):
            with write_errors(output):
                _save(part, {path: checkpoint.read_leaf(path) for path in paths})
            gc.collect()  # otherwise two groups would be in memory at a time
            bar.update(sum(_num_bytes(shapes[path]) for path in paths))
        ocp.partial.finalize(str(part))
        compat.orbax_tree(part).rename(folder / CHECKPOINTS / "0" / PARAMETERS)
        shutil.rmtree(part)
        _mark_complete(folder, output)
        copy_companions(checkpoint, folder, folder / AUTOENCODER, folder / TOKENIZER)
        write_text(folder / "config.json", to_json(config))


def _write_adapter(checkpoint: Checkpoint, output: Path, portable: bool) -> None:
    lora = checkpoint.lora
    assert lora is not None
    config: Config = default_config("omnigen")
    weights = initialize_from(config, str(checkpoint.base))
    # The run can be trained further only with the scheme of weights that are stored quantised.
    quantized = quantize_checkpoint(weights, lora.quantize or None).quantized
    config.lora = ConfigDict(
        {
            "rank": lora.rank,
            "alpha": lora.alpha,
            "target_modules": lora.target_modules,
            "use_rslora": lora.use_rslora,
            "quantize": quantized or "",
            "adapter": "",
        }
    )
    if portable:
        config = ConfigDict(without_paths(config.to_dict()))
        base = Path(str(checkpoint.base))
        base = base.parent.parent if base.parent.name == CHECKPOINTS else base
        config.weights = config.weights or base.name
    adapter = open_adapter(checkpoint.step_path, checkpoint.model)
    config.sample = ConfigDict(checkpoint.sampling.to_dict())
    if adapter.distilled:
        config.distill.loss, config.distill.teacher = adapter.distilled["loss"], config.weights
    with new_folder(output) as folder:
        leaves = jax.tree.map(jax.numpy.asarray, adapter.leaves)
        _save_config(folder, config, checkpoint, leaves)
        _mark_complete(folder, output)
        write_text(folder / "config.json", to_json(config))


def _mark_complete(folder: Path, output: Path) -> None:
    """Adds what tells in an object store that a step is complete."""
    if is_remote(output):
        step = folder / CHECKPOINTS / "0"
        for part in (step, *(item for item in step.iterdir() if item.is_dir())):
            write_text(part / COMMITTED, f"Checkpoint commit was successful to {part.name}")


def _save_config(
    folder: Path, config: Config, checkpoint: Checkpoint, adapter: dict[str, Any] | None = None
) -> None:
    values = config.to_dict()
    if fingerprint := fingerprint_of(checkpoint):
        values[FINGERPRINT] = fingerprint
    if checkpoint.quantized and not checkpoint.lora:
        values[QUANTIZED] = checkpoint.quantized
    checkpoints = Checkpoints(folder)
    checkpoints.save_config(0, values, adapter)
    checkpoints.close()


def _num_bytes(shape: jax.ShapeDtypeStruct) -> int:
    return shape.size * shape.dtype.itemsize


def _groups(shapes: Mapping[ParameterPath, jax.ShapeDtypeStruct]) -> list[list[ParameterPath]]:
    """Returns the parameters in groups of at most `_GROUP_BYTES`; larger ones are alone."""
    groups, size = [], 0
    for path, shape in shapes.items():
        size += _num_bytes(shape)
        if size > _GROUP_BYTES or not groups:
            groups.append([])
            size = _num_bytes(shape)
        groups[-1].append(path)
    return groups


def _save(part: Path, values: Mapping[ParameterPath, np.ndarray]) -> None:
    """Adds parameters to a checkpoint that is written in parts."""
    device = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    # Unlike `device_put` this takes aligned memory as it is, without a copy.
    arrays = {
        path: jax.make_array_from_callback(value.shape, device, value.__getitem__)
        for path, value in values.items()
    }
    tree = traverse_util.unflatten_dict(arrays)
    context = ocp.Context()
    saving = context.array.saving
    saving.storage_options.chunk_byte_size = _CHUNK_BYTES
    # OCDBT would hold a copy of what it writes; compression takes longer than it saves.
    saving.use_ocdbt = saving.use_compression = False
    with context:
        ocp.partial.save(str(part), tree)


def _config(checkpoint: Checkpoint) -> Config:
    """Returns the config of a run folder of converted weights."""
    if checkpoint.config is not None:
        config: Config = ConfigDict(checkpoint.config)
        config.weights = config.autoencoder = config.data.tokenizer = ""
        # What a student was distilled from is elsewhere, like the weights that it started from.
        config.distill = default_config("nano").distill
        config.sample = ConfigDict(checkpoint.sampling.to_dict())
        return config
    config = default_config("omnigen")
    kept = {name: config.model[name] for name in RUNTIME_FIELDS}
    config.model = ConfigDict(checkpoint.model.to_dict() | kept)
    config.sample = ConfigDict(checkpoint.sampling.to_dict())
    return config
