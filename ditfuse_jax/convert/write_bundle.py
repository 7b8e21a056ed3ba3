"""Writing a trained model as a bundle; see `weights.bundle`."""

from pathlib import Path

import numpy as np

from ditfuse_jax.convert.output import fingerprint_of, new_folder, progress_bar
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import copy_file, write_text
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.train.recipe import to_json
from ditfuse_jax.weights import Checkpoint, write_safetensors
from ditfuse_jax.weights.bundle import RECIPE, TENSORS, without_paths
from ditfuse_jax.weights.license import LICENSE, find_license
from ditfuse_jax.weights.quantized import QUANTIZED


def write_bundle(checkpoint: Checkpoint, output: Path, *, quiet: bool = False) -> None:
    """Writes a folder with the tensors, the recipe and the licence of a trained model.

    Raises:
      UserError: the weights were not trained here, or have an autoencoder or a tokenizer of their
        own, or the folder exists or cannot be written; nothing is left then.
    """
    if checkpoint.config is None or checkpoint.autoencoder or checkpoint.tokenizer:
        raise UserError(
            "a bundle holds a model on pixels that was trained here with the shipped tokenizer: "
            "convert to a run folder instead"
        )
    config = without_paths(checkpoint.config)
    config["sample"] = checkpoint.sampling.to_dict()  # a merged adapter may have brought its own
    if fingerprint := fingerprint_of(checkpoint):
        config[FINGERPRINT] = fingerprint
    if checkpoint.quantized:
        config[QUANTIZED] = checkpoint.quantized
    paths = {".".join(path): path for path in checkpoint.shapes()}
    specs = {
        ".".join(path): (shape.dtype, shape.shape) for path, shape in checkpoint.shapes().items()
    }
    with new_folder(output) as folder, progress_bar(checkpoint, quiet) as bar:

        def read(name: str) -> np.ndarray:
            value = checkpoint.read_leaf(paths[name])
            bar.update(value.nbytes)
            return value

        write_safetensors(folder / TENSORS, specs, read, {"format": "ditfuse_jax"})
        write_text(folder / RECIPE, to_json(config))
        if terms := find_license(checkpoint):
            copy_file(terms, folder / LICENSE)
