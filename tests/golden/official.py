"""Loads the reference numbers of the original PyTorch code in our slot layout."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from ditfuse_jax.convert.omnigen import config_from_phi3, parameters_from_original
from ditfuse_jax.model import Condition, DiTFuse, ModelConfig

FOLDER = Path(__file__).parent / "official_tiny"
SLOTS = (16, 8, 20)


@functools.cache
def golden() -> dict[str, np.ndarray]:
    return load_file(FOLDER / "golden.safetensors")


@functools.cache
def meta() -> dict:
    return json.loads((FOLDER / "golden.json").read_text())


@functools.cache
def config(**changes) -> ModelConfig:
    base = config_from_phi3(
        FOLDER / "config.json", text_slots=SLOTS, pos_embed_max_size=meta()["pos_embed_max_size"]
    )
    return dataclasses.replace(base, **changes)


@functools.cache
def parameters() -> dict:
    raw = load_file(FOLDER / "model.safetensors")
    return jax.tree.map(jnp.asarray, parameters_from_original(raw, config()))


def model(**changes) -> DiTFuse:
    graph = nnx.split(nnx.eval_shape(lambda: DiTFuse(config(**changes), rngs=nnx.Rngs(0))))[0]
    return nnx.merge(graph, parameters())


def channels_last(latents: np.ndarray) -> jnp.ndarray:
    """(..., C, H, W) as PyTorch has it -> (..., H, W, C)."""
    return jnp.asarray(np.moveaxis(latents, -3, -1))


def pack(ids: list[int], spans: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts a flat sequence with image placeholders into text slots: tokens, validity, images."""
    segments, start = [], 0
    for begin, end in spans:
        segments.append(ids[start:begin])
        start = end
    segments.append(ids[start:])
    capacities = (SLOTS[0], SLOTS[1], SLOTS[2])
    if not spans:
        segments = [segments[0][: capacities[0]], [], []]
    tokens, valid = [], []
    for segment, capacity in zip(segments, capacities, strict=True):
        assert len(segment) <= capacity
        padding = capacity - len(segment)
        tokens += segment + [0] * padding
        valid += [True] * len(segment) + [False] * padding
    return np.array(tokens), np.array(valid), np.array([bool(spans)] * 2)


def condition(samples: list[tuple[list[int], list[list[int]]]], images: jnp.ndarray) -> Condition:
    packed = [pack(ids, spans) for ids, spans in samples]
    tokens, valid, image_valid = (jnp.asarray(np.stack(x)) for x in zip(*packed, strict=True))
    return Condition(tokens, valid, images, image_valid)


def training_condition() -> Condition:
    images = channels_last(golden()["latent_images"])
    images = images.reshape(2, 2, *images.shape[1:])
    return condition([(s["ids"], s["images"]) for s in meta()["batch"]], images)


def sampling_branches() -> Condition:
    """Leaves (R = 3, B = 1, ...) in the order cond, img, neg."""
    sample = meta()["sample"]
    images = jnp.tile(channels_last(golden()["latent_images"][:2])[None], (3, 1, 1, 1, 1))
    flat = condition(
        [
            (sample["cond_ids"], sample["cond_images"]),
            (sample["img_cond_ids"], sample["img_cond_images"]),
            (sample["uncond_ids"], []),
        ],
        images,
    )
    return Condition(*(leaf[:, None] for leaf in flat))
