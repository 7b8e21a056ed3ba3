"""Tiny models in which every parameter is random, and inputs for them.

The final layer of a freshly initialised model is zero, so its output would not depend on anything.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from ditfuse_jax.model import Condition, DiTFuse, ModelConfig

LATENT = ModelConfig(
    preset="latent",
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=48,
    vocab_size=64,
    text_slots=(5, 3, 6),
    attention="reference",
)
PIXEL = dataclasses.replace(
    LATENT,
    preset="pixel",
    num_kv_heads=4,
    max_images=3,
    channels=3,
    latent_downsampling=1,
    patch_size=4,
    prediction="clean",
    head="blend",
    source_skip=True,
    conv_stem=True,
    pooled_prompt=True,
    attention="xla",
)
GRID = (2, 3)

# Tests compile many programs and run each once, so optimisation would take most of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def graph(config: ModelConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """Returns a model's graph definition and abstract parameters."""
    return nnx.split(nnx.eval_shape(lambda: DiTFuse(config, rngs=nnx.Rngs(0))))


def parameters(config: ModelConfig, seed: int = 0) -> dict[str, Any]:
    """Returns random parameters: norm scales around one, all others around zero."""
    random = np.random.default_rng(seed)

    def draw(path, leaf) -> np.ndarray:
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + 0.2 * random.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(graph(config)[1]))


def build(config: ModelConfig, seed: int = 0) -> DiTFuse:
    return nnx.merge(graph(config)[0], parameters(config, seed))


def image_shape(config: ModelConfig, grid: tuple[int, int] = GRID) -> tuple[int, int, int]:
    """Returns (H, W, C) of an image with a grid of patches."""
    rows, columns = grid
    return rows * config.patch_size, columns * config.patch_size, config.channels


def condition(
    config: ModelConfig,
    batch: int = 3,
    num_images: int = 2,
    grid: tuple[int, int] = GRID,
    seed: int = 1,
) -> Condition:
    """Returns random prompts of unequal length; all rows but the first lack the last image."""
    random = np.random.default_rng(seed)
    first, middle, last = config.text_slots
    slots = (first, *(middle,) * (num_images - 1), last)
    lengths = [[random.integers(1, slot + 1) for slot in slots] for _ in range(batch)]
    valid = np.stack(
        [
            np.concatenate([np.arange(s) < n for s, n in zip(slots, row, strict=True)])
            for row in lengths
        ]
    )
    image_valid = np.ones((batch, num_images), bool)
    if num_images > 1:
        image_valid[1:, -1] = False
    return Condition(
        tokens=random.integers(1, config.vocab_size, valid.shape),
        token_valid=valid,
        images=random.uniform(-1, 1, (batch, num_images, *image_shape(config, grid))).astype("f4"),
        image_valid=image_valid,
    )


def targets(
    config: ModelConfig, batch: int = 3, draws: int = 1, seed: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Returns noisy targets (B, K, H, W, C) and times (B, K)."""
    random = np.random.default_rng(seed)
    noisy = random.standard_normal((batch, draws, *image_shape(config))).astype("f4")
    return noisy, random.uniform(0, 1, (batch, draws)).astype("f4")
