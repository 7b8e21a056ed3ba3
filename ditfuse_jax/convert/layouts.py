"""The layouts that weights and adapters can be written in."""

import dataclasses
from pathlib import Path
from typing import Protocol

import jax

from ditfuse_jax.convert.output import new_folder
from ditfuse_jax.convert.write_bundle import write_bundle
from ditfuse_jax.convert.write_omnigen import write_omnigen
from ditfuse_jax.convert.write_onnx import write_onnx
from ditfuse_jax.convert.write_run import write_run
from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry
from ditfuse_jax.weights import Checkpoint, open_adapter, write_adapter


class LayoutWriter(Protocol):
    """Writes a checkpoint in one layout."""

    def __call__(self, checkpoint: Checkpoint, output: Path, *, quiet: bool = False) -> None:
        """Writes a new folder; see `convert.output.new_folder`.

        Args:
          checkpoint: weights, or an adapter if its `lora` is set.
          output: the folder.
          quiet: no progress bar.

        Raises:
          UserError: the layout cannot hold this model, or the folder exists or cannot be written.
        """
        ...


def write_peft(checkpoint: Checkpoint, output: Path, *, quiet: bool = False) -> None:
    """Writes an adapter as a PEFT folder; see `LayoutWriter`."""
    del quiet
    if checkpoint.lora is None:
        raise UserError(
            f"{checkpoint.path} holds weights and no adapter: it cannot become a PEFT folder"
        )
    adapter = open_adapter(checkpoint.step_path, checkpoint.model)
    adapter = dataclasses.replace(adapter, leaves=jax.device_get(adapter.leaves))
    with new_folder(output) as folder:
        write_adapter(folder, adapter, checkpoint.model)


LAYOUTS: Registry[LayoutWriter] = Registry(
    "layout",
    {
        "run": write_run,
        "omnigen": write_omnigen,
        "peft": write_peft,
        "bundle": write_bundle,
        "onnx": write_onnx,
    },
)

# Layouts of adapters; the others hold whole models.
ADAPTER_LAYOUTS = ("run", "peft")
# Layouts that hold quantised kernels.
QUANTIZED_LAYOUTS = ("run", "bundle")
