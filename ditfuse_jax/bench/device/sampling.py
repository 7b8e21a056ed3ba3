"""Sampling: seconds per pair of images, and the bundled model's images per second."""

import dataclasses
import statistics
from typing import Any

import jax
import numpy as np

from ditfuse_jax.aot.compile import CompileConfig, model_flops
from ditfuse_jax.aot.programs import sampling_programs
from ditfuse_jax.bench.device import programs
from ditfuse_jax.bench.device.plan import Scale
from ditfuse_jax.bench.measurement import time_repeats
from ditfuse_jax.parallel import Partitioner, make_mesh
from ditfuse_jax.parallel.accelerators import peak_flops
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.train.for_devices import with_attention
from ditfuse_jax.weights.bundle import SHIPPED


def sample(scale: Scale, side: int) -> dict[str, Any]:
    """Times encoding, guided sampling and decoding of one pair of images with random weights."""
    device = jax.devices()[0]
    overrides = (
        f"--config.model.dtype={scale.dtype}",
        f"--config.sample.steps={scale.steps}",
        *scale.overrides,
    )
    config = CompileConfig(scale.preset, "sample", side, 1, overrides=overrides)
    recipe, _ = with_attention(config.recipe(1, 1), device)
    partitioner = Partitioner(make_mesh(recipe.mesh, [device]))
    seconds = {}
    for program in sampling_programs(recipe, partitioner):
        compiled = program.lower().compile()
        arrays = programs.arguments(compiled)
        repeats = max(1, scale.repeats // 4)
        seconds[program.name] = statistics.median(
            time_repeats(lambda run=compiled, given=arrays: run(*given), repeats)
        )
        del compiled, arrays
    flops, peak = model_flops(recipe, "sample"), peak_flops(device.device_kind)
    values: dict[str, Any] = {
        "preset": scale.preset,
        "attention": recipe.model.attention,
        "steps": recipe.sampling.num_evaluations,
        "seconds per pair": sum(seconds.values()),
        **{f"seconds of {name}": value for name, value in seconds.items()},
        "model TFLOP/s of sample": flops / seconds["sample"] / 1e12,
    }
    return values | ({"MFU of sample": flops / seconds["sample"] / peak} if peak else {})


def bundled(scale: Scale) -> dict[str, Any]:
    """Times the bundled model on random pairs of images, as `ditfuse fuse` runs it."""
    trained = load_trained(SHIPPED)
    sampling = dataclasses.replace(trained.sampling, batch_size=max(1, 2 * scale.batch))
    fuser = StackFuser(trained, sampling)
    random = np.random.default_rng(0)
    side, count = scale.bundled_side, sampling.batch_size
    pairs = random.integers(0, 256, (count, 2, side, side, 3), np.uint8)
    prompt = standard_prompt("fuse", 2)
    inputs = [FusionInput(list(pair), prompt) for pair in pairs]
    seconds = statistics.median(
        time_repeats(lambda: fuser.fuse(inputs), max(2, scale.repeats // 2))
    )
    return {
        "pixels": f"{side} x {side}",
        "batch": count,
        "steps": sampling.num_evaluations,
        "images/s": count / seconds,
    }
