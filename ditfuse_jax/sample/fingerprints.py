"""Fingerprints of fused images: from which pixels and by which model a file was made.

A file records its fingerprint in its metadata.  Run again, a job keeps the files whose fingerprint
is the one that they would get.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import source_files
from ditfuse_jax.flow import SOLVERS
from ditfuse_jax.flow.times import SHIFT_RULES
from ditfuse_jax.images import read_metadata
from ditfuse_jax.model.attention import IMPLEMENTATIONS
from ditfuse_jax.model.heads import HEADS, is_of_this_package
from ditfuse_jax.sample.refinement import REFINEMENTS

if TYPE_CHECKING:
    from ditfuse_jax.sample.stack_fuser import StackFuser
    from ditfuse_jax.sample.trained import TrainedModel

KEY = "fingerprint"  # in an image's metadata
_VALUES_PER_LEAF = 4096


def text_digest(text: str) -> str:
    """Returns the SHA-256 hex digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def pixels_digest(*images: np.ndarray) -> str:
    """Returns the SHA-256 hex digest of images' shapes and pixels."""
    hashed = hashlib.sha256()
    for image in images:
        hashed.update(repr((image.shape, image.dtype.str)).encode())
        hashed.update(np.ascontiguousarray(image).data)
    return hashed.hexdigest()


def fuser_digest(fuser: "StackFuser") -> str:
    """Returns a text that differs between models, sampling settings and extensions."""
    code = extension_digest(fuser)
    return f"{parameters_digest(fuser.trained)} {fuser.sampling}{code and f' {code}'}"


def parameters_digest(trained: "TrainedModel") -> str:
    """Returns a digest of a model's weights: up to 4096 evenly spaced values of every array.

    Training and merging an adapter change nearly all values of an array, so the sample suffices to
    tell models apart, whatever their files and size.
    """
    hashed = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path((trained.parameters, trained.autoencoder))
    for path, leaf in leaves:
        flat = leaf.reshape(-1)
        sample = np.asarray(flat[:: max(1, flat.size // _VALUES_PER_LEAF)])
        hashed.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        hashed.update(sample.tobytes())
    model = trained.model.to_dict()
    del model["unroll"]  # does not change the layers
    hashed.update(json.dumps(model, default=str).encode())
    return hashed.hexdigest()


def extension_digest(fuser: "StackFuser") -> str:
    """Returns a digest of the extensions' code behind a model's images; "" if there is none.

    Extensions count if one of them registered the solver, the shift rule, the head, the attention
    or, with `refine`, a refinement.
    """
    model, sampling = fuser.trained.model, fuser.sampling
    used = [SOLVERS.find(sampling.solver), SHIFT_RULES.find(sampling.shift_rule)]
    used.append(IMPLEMENTATIONS.find(model.attention))
    if not is_of_this_package(model.head):
        used.append(HEADS.find(model.head))
    if sampling.refine:
        used += REFINEMENTS.values()
    files = source_files(used)
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest() if files else ""


def has_fingerprint(path: Path, fingerprint: str) -> bool:
    """Returns whether a file is complete and has this fingerprint."""
    if not path.is_file():
        return False
    try:
        return read_metadata(path).get(KEY) == fingerprint
    except UserError:
        return False
