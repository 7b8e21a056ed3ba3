"""`ditfuse convert --push`: a converted folder and its model card to the Hub."""

import json
from pathlib import Path

from ditfuse_jax import hub
from ditfuse_jax.convert.model_card import FILE
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_bytes, write_text
from ditfuse_jax.train.changes import flat_settings
from ditfuse_jax.weights import Checkpoint
from ditfuse_jax.weights.bundle import without_paths
from ditfuse_jax.weights.hub_files import belongs_to_model
from ditfuse_jax.weights.license import LICENSE, find_license
from ditfuse_jax.weights.run_paths import CHECKPOINTS
from ditfuse_jax.weights.tensors import PICKLES


def add_card(folder: Path, card: str, checkpoint: Checkpoint) -> None:
    """Writes a model card and the licence of what was converted into a converted folder.

    Raises:
      UserError: the folder cannot be written.
    """
    write_text(folder / FILE, card)
    terms = find_license(checkpoint)
    if terms is not None and not (folder / LICENSE).exists():
        write_bytes(folder / LICENSE, terms.read_bytes())


def push(folder: Path, address: str, *, private: bool = False, dry_run: bool = False) -> None:
    """Uploads a converted folder with its model card, and prints what it does.

    Args:
      folder: with weights and a `README.md`.
      address: `hf://OWNER/NAME[@BRANCH]`.
      private: a new repository is private.
      dry_run: only print the card, and what would be uploaded; needs no network.

    Raises:
      UserError: the folder is not complete or holds what must not be published, or see `hub.push`.
    """
    target = hub.push_address(address)
    files = _files(folder)
    size = sum((folder / name).stat().st_size for name in files)
    if dry_run:
        print((folder / FILE).read_text(encoding="utf-8"))
        for name in files:
            print(f"{(folder / name).stat().st_size:>14,}  {name}")
        print(f"would upload {len(files)} files, {size:,} bytes, from {folder} to {target}")
        return
    upload = hub.Upload(folder, files)
    pushed = hub.push(upload, address, belongs=belongs_to_model, private=private)
    print(f"pushed {len(files)} files, {size:,} bytes: {pushed}")


def _files(folder: Path) -> tuple[str, ...]:
    """Returns the files to upload.

    Raises:
      UserError: there is no card, there are no weights, or something else that must stay here.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give -o OUTPUT to convert a model and push it")
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    names = [path.relative_to(folder).as_posix() for path in found]
    training = [n for n in names if n.startswith(f"{CHECKPOINTS}/") and "/training/" in n]
    if training:
        raise UserError(
            f"{folder} is a training's folder, with the optimiser's state: convert it, "
            f"`ditfuse convert {folder} -o OUTPUT --push hf://OWNER/NAME`"
        )
    if not any(n.endswith(".safetensors") or n.startswith(f"{CHECKPOINTS}/") for n in names):
        raise UserError(f"{folder} holds no weights")
    if FILE not in names:
        raise UserError(
            f"{folder} has no model card, {FILE}: write one, or convert with -o OUTPUT --push ... "
            "--dry-run, which does"
        )
    if pickles := [name for name in names if Path(name).suffix in PICKLES]:
        raise UserError(f"{folder / pickles[0]} is a pickle, which is not uploaded: remove it")
    _check_config(folder / "config.json")
    return tuple(name for name in names if not Path(name).name.startswith(".") or "/" in name)


def _check_config(path: Path) -> None:
    """Checks that the config of a run names no folders of this machine.

    Raises:
      UserError: it does, or cannot be read.
    """
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): convert again") from error
    if not (isinstance(config, dict) and isinstance(config.get("data"), dict)):
        return  # of another layout
    left = flat_settings(without_paths(config))
    for key, value in flat_settings(config).items():
        if value and left.get(key) != value:
            raise UserError(
                f"{path} names what is on this machine only, {key} = {value!r}: convert the model "
                "with -o OUTPUT --push, which leaves that out"
            )
