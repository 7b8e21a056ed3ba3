"""Models and autoencoders on the Hub: which of a repository's files are needed.

Only safetensors, JSON files, tokenizers, licences and the arrays of runs are ever downloaded;
pickles never are, because reading one runs the code in it.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.tokenizer import TOKENIZER_FILES
from ditfuse_jax.weights.bundle import RECIPE
from ditfuse_jax.weights.run_paths import CHECKPOINTS
from ditfuse_jax.weights.tensors import KNOWN_TENSORS, PICKLES

_STEP = re.compile(rf"{CHECKPOINTS}/(\d+)/.+")
# Of a step, what only training reads.
_TRAINING = "training/"
_TRANSFORMER = "transformer/"
_AUTOENCODERS = ("vae/", "autoencoder/")
_TEXTS = ("tokenizer.model", "LICENSE")
# What decides how weights are read.
_CONFIGS = ("config.json", "adapter_config.json", "model_index.json", RECIPE, *TOKENIZER_FILES)


def download_model(address: Path | str) -> Path:
    """Downloads a model or an adapter in any layout that `open_checkpoint` opens.

    Returns:
      Its local folder.

    Raises:
      UserError: see `hub.download`.
    """
    return hub.download(address, model_files, "safetensors of a model")


def model_files(names: Sequence[str]) -> list[str]:
    """Chooses the files of a model, an adapter or an autoencoder that are read when it is opened.

    Of a run these are those of the newest step without the optimiser's state.

    Raises:
      UserError: there are weights, but only as pickles.
    """
    steps = [int(match[1]) for match in map(_STEP.fullmatch, names) if match]
    if steps:
        newest = f"{CHECKPOINTS}/{max(steps)}/"
        main = [n for n in _inside(newest, names) if not n.startswith(newest + _TRAINING)]
    else:
        folder = _TRANSFORMER if f"{_TRANSFORMER}config.json" in names else ""
        main = _tensors(folder, names)
        pickles = [name for name in names if Path(name).suffix in PICKLES]
        if pickles and not main:
            raise UserError(
                f"holds only pickles, like {pickles[0]}, and reading a pickle runs the code in it: "
                "look for a repository or a revision with safetensors"
            )
    if not main:
        return []
    companions = [name for folder in _AUTOENCODERS for name in _tensors(folder, names)]
    texts = [
        name
        for name in names
        if name.count("/") <= 1 and (name.endswith(".json") or Path(name).name in _TEXTS)
    ]
    return sorted({*main, *companions, *texts})


def belongs_to_model(name: str) -> bool:
    """Returns whether a file of a repository is part of a model, in any layout."""
    if name.startswith(f"{CHECKPOINTS}/") or name.endswith((".safetensors", ".index.json")):
        return True
    return name.count("/") <= 1 and Path(name).name in _CONFIGS


def _tensors(folder: str, names: Iterable[str]) -> list[str]:
    """Returns the tensors in a folder that `open_tensors` reads: a file, or the shards of one."""
    held = [
        name.removeprefix(folder)
        for name in _inside(folder, names)
        if "/" not in name.removeprefix(folder) and name.endswith(".safetensors")
    ]
    indices = {name.removeprefix(folder) for name in names if name.endswith(".index.json")}
    for stem in KNOWN_TENSORS:
        if f"{stem}.safetensors" in held:
            held = [f"{stem}.safetensors"]
        elif f"{stem}.safetensors.index.json" in indices:
            held = [name for name in held if re.fullmatch(rf"{stem}-\d+-of-\d+\.safetensors", name)]
        else:
            continue
        break
    return [folder + name for name in held]


def _inside(folder: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(folder)]
