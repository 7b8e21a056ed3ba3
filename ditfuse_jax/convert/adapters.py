"""Adapters between PEFT folders and run folders."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from ditfuse_jax.convert.writers import new_folder
from ditfuse_jax.files import write_text
from ditfuse_jax.train.base import open_adapter, start_from
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.recipe import default_config, to_json
from ditfuse_jax.train.settings import resolve
from ditfuse_jax.weights import write_adapter
from ditfuse_jax.weights.peft import Adapter
from ditfuse_jax.weights.run_paths import find_checkpoint
from ditfuse_jax.weights.run_reader import RunReader


def adapter_to_run(folder: Path, base: Path, output: Path) -> None:
    """Writes a run folder that holds a PEFT adapter over the weights in `base`.

    Raises:
      UserError: there is no adapter, it was made for another model, or the output exists.
    """
    config = default_config("omnigen")
    start_from(config, str(base))
    lora, leaves = open_adapter(folder, resolve(config).model)
    config.lora = ConfigDict(
        {
            "rank": lora.rank,
            "alpha": lora.alpha,
            "target_modules": lora.target_modules,
            "use_rslora": lora.use_rslora,
            "adapter": "",
        }
    )
    with new_folder(output) as temporary:
        checkpoints = Checkpoints(temporary)
        checkpoints.save_config(0, config.to_dict(), jax.tree.map(jax.numpy.asarray, leaves))
        checkpoints.close()
        write_text(temporary / "config.json", to_json(config))


def adapter_to_peft(run: Path, output: Path) -> None:
    """Writes the adapter that a run trained as a PEFT folder.

    Raises:
      UserError: the run trained none, or the output exists.
    """
    folder, step = find_checkpoint(run)
    checkpoints = RunReader(folder)
    try:
        model = resolve(checkpoints.config(step)).model
    finally:
        checkpoints.close()
    lora, leaves = open_adapter(run, model)
    host = jax.device_get(leaves)
    with new_folder(output) as temporary:
        write_adapter(temporary, Adapter(lora, host), model)
