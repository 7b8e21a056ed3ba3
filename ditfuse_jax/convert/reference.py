"""Reference numbers of the original PyTorch code, in the slot layout of this package.

A folder holds a model in OmniGen's layout, `golden.json` (token ids, image spans, sampling
settings) and `golden.safetensors` (inputs and outputs); see `verify`.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import Condition, DiTFuse, ModelConfig
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts import TextSlots
from ditfuse_jax.weights import open_omnigen
from ditfuse_jax.weights.omnigen import parameters_from_original

_FILES = ("golden.json", "golden.safetensors")
_PROMPTS = ("cond_ids", "cond_images", "img_cond_ids", "img_cond_images", "uncond_ids")

# Token ids of a prompt with zeros in place of its images, and the (start, stop) of each image.
Sample = tuple[list[int], list[list[int]]]


class Reference:
    """One folder of reference numbers, read on demand."""

    def __init__(self, folder: Path):
        self.folder = as_path(folder)
        for name in _FILES:
            if not (self.folder / name).is_file():
                raise UserError(
                    f"{self.folder / name} is missing: a folder of reference numbers holds a model "
                    f"in OmniGen's layout and {' and '.join(_FILES)}"
                )

    @functools.cached_property
    def golden(self) -> dict[str, np.ndarray]:
        """Inputs and outputs of the original, channels first."""
        return read_numbers(self.folder / "golden.safetensors")

    @functools.cached_property
    def meta(self) -> dict[str, Any]:
        """Content of `golden.json`."""
        path = self.folder / "golden.json"
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            # Accessed here, so that the message for a missing key names the file.
            samples = [(sample["ids"], sample["images"]) for sample in meta["batch"]]
            if not any(images for _, images in samples):
                raise ValueError("no prompt of its batch has an image")
            if "sample" in meta:
                for name in _PROMPTS:
                    meta["sample"][name]
            return meta
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} does not hold reference numbers: {error!r}") from error

    @functools.cached_property
    def batch(self) -> list[Sample]:
        """The prompts of the training batch."""
        return [(sample["ids"], sample["images"]) for sample in self.meta["batch"]]

    @functools.cached_property
    def branches(self) -> list[Sample]:
        """The prompts of the guidance branches cond, img, neg."""
        sample = self.meta["sample"]
        return [
            (sample["cond_ids"], sample["cond_images"]),
            (sample["img_cond_ids"], sample["img_cond_images"]),
            (sample["uncond_ids"], []),
        ]

    @functools.cached_property
    def slots(self) -> TextSlots:
        """Text slots that hold all prompts, a few tokens wider than necessary."""
        samples = self.batch + (self.branches if "sample" in self.meta else [])
        cut = [_segments(sample) for sample in samples]
        shown = [segments for segments in cut if len(segments) > 1]
        first = 3 + max(len(segments[0]) for segments in shown)
        middle = 3 + max((len(s) for segments in shown for s in segments[1:-1]), default=0)
        last = 3 + max(len(segments[-1]) for segments in shown)
        alone = max((len(segments[0]) for segments in cut if len(segments) == 1), default=0)
        return TextSlots(first, middle, max(last, alone - first))

    def config(self, **changes: Any) -> ModelConfig:
        """Returns the model's config in float32, with changed fields."""
        fields = {"text_slots": dataclasses.astuple(self.slots)}
        if "pos_embed_max_size" in self.meta:
            fields["pos_embed_max_size"] = self.meta["pos_embed_max_size"]
        return open_omnigen(self.folder, **fields | changes).config

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The model's parameters, float32."""
        opened = open_omnigen(self.folder, **{"pos_embed_max_size": self._table_size()})
        host = parameters_from_original(opened.tensors, opened.config)
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), host)

    def graph(self, lora: Any = None, **changes: Any) -> nnx.GraphDef:
        """Returns the model's structure, with adapters if `lora` is given."""
        return make_graph(Network(self.config(**changes), lora))[0]

    def model(self, **changes: Any) -> DiTFuse:
        """Returns the model."""
        return nnx.merge(self.graph(**changes), self.parameters)

    @functools.cached_property
    def condition(self) -> Condition:
        """The training batch's condition."""
        counts = [len(images) for _, images in self.batch]
        images = channels_last(self.golden["latent_images"])
        padded = np.zeros((len(counts), max(counts), *images.shape[1:]), np.float32)
        start = 0
        for row, count in enumerate(counts):
            padded[row, :count] = images[start : start + count]
            start += count
        return self._condition(self.batch, jnp.asarray(padded))

    @functools.cached_property
    def sampling(self) -> Condition:
        """The guidance branches' conditions, leaves (3, 1, ...), in the order of `branches`."""
        count = len(self.branches[0][1])
        images = channels_last(self.golden["latent_images"][:count])
        flat = self._condition(self.branches, jnp.tile(images[None], (3, 1, 1, 1, 1)))
        return Condition(*(leaf[:, None] for leaf in flat))

    def _condition(self, samples: list[Sample], images: jax.Array) -> Condition:
        num_slots = images.shape[1]
        packed = [self.slots.pack(_segments(sample), num_slots) for sample in samples]
        shown = [[k < len(spans) for k in range(num_slots)] for _, spans in samples]
        return Condition(
            jnp.asarray(np.stack([p.tokens for p in packed])),
            jnp.asarray(np.stack([p.valid for p in packed])),
            images,
            jnp.asarray(shown),
        )

    def _table_size(self) -> int:
        return self.meta.get("pos_embed_max_size", 192)


def read_numbers(path: Path) -> dict[str, np.ndarray]:
    """Reads a file of inputs and outputs.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the reference numbers {path}: {error}") from error


def channels_last(latents: np.ndarray) -> jax.Array:
    """Converts PyTorch's (..., C, H, W) to (..., H, W, C)."""
    return jnp.asarray(np.moveaxis(latents, -3, -1))


def _segments(sample: Sample) -> list[list[int]]:
    ids, spans = sample
    segments, start = [], 0
    for begin, end in spans:
        segments.append(ids[start:begin])
        start = end
    return [*segments, ids[start:]]
