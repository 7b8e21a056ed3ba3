"""Opening a stored model, whatever its layout."""

import dataclasses
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import RUNTIME_FIELDS
from ditfuse_jax.model.presets import preset
from ditfuse_jax.weights.adapters import with_adapter
from ditfuse_jax.weights.bundle import find_bundle, is_bundle, open_bundle
from ditfuse_jax.weights.checkpoint import Checkpoint
from ditfuse_jax.weights.omnigen_folder import OmniGenReader, is_weights, open_omnigen
from ditfuse_jax.weights.peft import is_adapter, read_adapter
from ditfuse_jax.weights.run_paths import is_run, resolve_best


def open_checkpoint(path: Path | str, *, base: Path | str | None = None) -> Checkpoint:
    """Opens a stored model; no parameter is read yet.

    Args:
      path: `small`, the bundled model; the folder of another bundle; a run folder (its newest
        step), `RUN@best` or a step folder; a folder or file in OmniGen's or diffusers' layout; or a
        PEFT adapter.
      base: the weights under an adapter: required for a PEFT adapter, and for a run of adapters
        whose weights were moved.

    Raises:
      UserError: there is no model, it is incomplete or damaged, or it needs a base.
    """
    path = find_bundle(path)
    if is_run(path):
        # Orbax is imported only when a run is opened.
        from ditfuse_jax.weights.run import open_run

        return open_run(path, open_checkpoint, base)
    if is_bundle(path):
        return open_bundle(path)
    if is_adapter(path):
        if base is None:
            raise UserError(
                f"{path} is an adapter: name the weights under it with --base, or give them as "
                "--checkpoint and the adapter with --lora"
            )
        below = open_checkpoint(base)
        checkpoint = dataclasses.replace(
            below,
            name=path.name,
            kind="peft",
            path=path,
            base=resolve_best(find_bundle(base)),
            step=None,
        )
        return with_adapter(checkpoint, lambda: below, read_adapter(path, below.model))
    if is_weights(path):
        return _open_omnigen(path)
    raise UserError(
        f"no checkpoint in {path}: give a run folder of `ditfuse train`, a bundle, or weights in "
        "OmniGen's or diffusers' layout"
    )


def _open_omnigen(path: Path) -> Checkpoint:
    opened = open_omnigen(path)
    runtime = {name: getattr(preset("omnigen"), name) for name in RUNTIME_FIELDS}
    return Checkpoint(
        name=path.name,
        kind=opened.kind,
        path=path,
        model=dataclasses.replace(opened.config, **runtime),
        reader=OmniGenReader(opened.tensors, opened.config),
        autoencoder=opened.autoencoder,
        tokenizer=opened.tokenizer,
        tokenizer_fingerprint=opened.tokenizer_fingerprint,
    )
