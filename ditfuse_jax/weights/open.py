"""Opening a stored model, whatever its layout."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import RUNTIME_FIELDS
from ditfuse_jax.model.presets import preset
from ditfuse_jax.registry import Registry
from ditfuse_jax.weights.adapters import check_adapter_tokenizer, with_adapter
from ditfuse_jax.weights.bundle import find_bundle, is_bundle, open_bundle
from ditfuse_jax.weights.checkpoint import Checkpoint
from ditfuse_jax.weights.hub_files import download_model
from ditfuse_jax.weights.omnigen_folder import OmniGenReader, is_weights, open_omnigen
from ditfuse_jax.weights.peft import is_adapter, read_adapter
from ditfuse_jax.weights.run_paths import is_run


@dataclasses.dataclass(frozen=True)
class StoredLayout:
    """A layout in which models are stored.

    Attributes:
      recognizes: returns whether a path has this layout, complete or not.
      open: opens a path; the second argument is the `base` of `open_checkpoint`.
    """

    recognizes: Callable[[Path], bool]
    open: Callable[[Path, Path | str | None], Checkpoint]


def open_checkpoint(path: Path | str, *, base: Path | str | None = None) -> Checkpoint:
    """Opens a stored model; no parameter is read yet.

    Args:
      path: `small`, the bundled model; the folder of another bundle; a run folder (its newest
        step), `RUN@best` or a step folder; a folder or file in OmniGen's or diffusers' layout; a
        PEFT adapter; or the address of one of them on the Hub, `hf://OWNER/NAME[@REVISION]`.
      base: the weights under an adapter: required for a PEFT adapter, and for a run of adapters
        whose weights were moved.

    Raises:
      UserError: there is no model, it is incomplete or damaged, or it needs a base.
    """
    if hub.is_address(path):
        return _open_from_hub(path, base)
    path = find_bundle(path)
    for layout in reversed(list(STORED_LAYOUTS.values())):
        if layout.recognizes(path):
            return layout.open(path, base)
    raise UserError(
        f"no checkpoint in {path}: give a run folder of `ditfuse train`, a bundle, or weights in "
        "OmniGen's or diffusers' layout"
    )


def _open_from_hub(address: Path | str, base: Path | str | None) -> Checkpoint:
    folder = download_model(address)
    opened = open_checkpoint(folder, base=base)
    step = "" if opened.step is None else f", step {opened.step}"
    return dataclasses.replace(opened, name=f"{hub.recorded(folder)}{step}")


def _open_run(path: Path, base: Path | str | None) -> Checkpoint:
    # Orbax is imported only when a run is opened.
    from ditfuse_jax.weights.run import open_run

    return open_run(path, _open_base, base)


def _open_base(path: Path | str) -> Checkpoint:
    """Opens the weights under an adapter.

    Raises:
      UserError: they are an adapter themselves, or `open_checkpoint` raises it.
    """
    folder = download_model(path) if hub.is_address(path) else find_bundle(path)
    below = None if is_adapter(folder) else open_checkpoint(path)
    if below is None or below.lora:
        raise UserError(
            f"the base {path} is an adapter itself: merge it first with `ditfuse convert WEIGHTS "
            f"--lora {path} -o MERGED`, then give --base MERGED"
        )
    return below


def _open_bundle(path: Path, base: Path | str | None) -> Checkpoint:
    del base
    return open_bundle(path)


def _open_peft(path: Path, base: Path | str | None) -> Checkpoint:
    if base is None:
        raise UserError(
            f"{path} is an adapter: name the weights under it with --base, or give them as "
            "--checkpoint and the adapter with --lora"
        )
    below = _open_base(base)
    checkpoint = dataclasses.replace(
        below,
        name=path.name,
        kind="peft",
        path=path,
        base=Path(base) if hub.is_address(base) else below.step_path,
        step=None,
    )
    adapter = read_adapter(path, below.model)
    check_adapter_tokenizer(adapter, path, below.tokenizer, below.model.vocab_size)
    return with_adapter(checkpoint, lambda: below, adapter)


def _open_omnigen(path: Path, base: Path | str | None) -> Checkpoint:
    del base
    opened = open_omnigen(path)
    runtime = {name: getattr(preset("omnigen"), name) for name in RUNTIME_FIELDS}
    return Checkpoint(
        name=path.name,
        kind=opened.kind,
        path=path,
        model=dataclasses.replace(opened.config, **runtime),
        reader=OmniGenReader(opened.tensors, opened.config),
        autoencoder=opened.autoencoder,
        sampling=opened.sampling,
        tokenizer=opened.tokenizer,
        tokenizer_fingerprint=opened.tokenizer_fingerprint,
    )


# The last one that recognizes a path opens it, so registered layouts precede those of this package.
STORED_LAYOUTS: Registry[StoredLayout] = Registry(
    "stored layout",
    {
        "omnigen": StoredLayout(is_weights, _open_omnigen),
        "peft": StoredLayout(is_adapter, _open_peft),
        "bundle": StoredLayout(is_bundle, _open_bundle),
        "run": StoredLayout(is_run, _open_run),
    },
)
