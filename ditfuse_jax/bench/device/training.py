"""Model FLOPs utilisation of training, with adapters and of all weights."""

import dataclasses
import statistics
from typing import Any

import jax

from ditfuse_jax.aot.compile import CompileConfig, model_flops
from ditfuse_jax.aot.programs import train_program
from ditfuse_jax.bench.device import programs
from ditfuse_jax.bench.device.outcome import NotApplicable
from ditfuse_jax.bench.device.plan import Scale
from ditfuse_jax.bench.measurement import time_repeats
from ditfuse_jax.model.remat import AUTO
from ditfuse_jax.parallel import Partitioner, make_mesh
from ditfuse_jax.parallel.accelerators import peak_flops
from ditfuse_jax.parallel.compiler_options import compile_with_options, compiler_options
from ditfuse_jax.parallel.device_memory import memory_limit
from ditfuse_jax.train.choose_remat import choose_remat, program_bytes
from ditfuse_jax.train.for_devices import with_attention
from ditfuse_jax.train.optimizer import make_optimizer
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import abstract_state, create_state

# All weights of `omnigen` with AdamW and an average need 70 GB before anything is computed; devices
# with less memory train this preset instead.
_SMALLER = "large"
_ENOUGH = 100 * 2**30
_GIB = 2.0**30


def train(scale: Scale, remat: str, lora: bool) -> dict[str, Any]:
    """Times training steps on one device.

    Raises:
      NotApplicable: the step does not fit the device.
    """
    device = jax.devices()[0]
    limit = memory_limit([device])
    preset = scale.preset
    if preset == "omnigen" and not lora and limit is not None and limit < _ENOUGH:
        preset = _SMALLER
    config = CompileConfig(
        preset,
        image_size=scale.train_side,
        batch_size=scale.batch,
        lora=lora,
        overrides=(f"--config.model.dtype={scale.dtype}", *scale.overrides),
    )
    recipe, _ = with_attention(config.recipe(1, 1), device)
    partitioner = Partitioner(make_mesh(recipe.mesh, [device]))

    def compile_with(name: str) -> Any:
        program = train_program(_with_remat(recipe, name), partitioner)
        options = compiler_options(recipe.train.compiler_options, device)
        return compile_with_options(program.lower(), options)

    if remat == AUTO:
        choice = choose_remat(compile_with, limit)
        remat, compiled = choice.name, choice.compiled or compile_with(choice.name)
    else:
        compiled = compile_with(remat)
    needed = program_bytes(compiled.memory_analysis())
    if limit is not None and needed > limit:
        gib = f"{needed / _GIB:.1f} of {limit / _GIB:.1f} GiB"
        raise NotApplicable(f"{preset} with remat={remat} does not fit: needs {gib}")
    recipe = _with_remat(recipe, remat)
    optimizer, ema = make_optimizer(recipe.optimizer, recipe.train.steps), recipe.step.ema_decay > 0
    abstract = abstract_state(recipe.network, optimizer, ema, partitioner)
    state = create_state(recipe.network, optimizer, ema, recipe.seed, abstract)
    _, frozen, batch = programs.arguments(compiled, skip=1)

    def run() -> Any:
        nonlocal state
        state, metrics = compiled(state, frozen, batch)
        return metrics

    seconds = statistics.median(time_repeats(run, max(2, scale.repeats // 2)))
    flops = model_flops(recipe, "train")
    values = {
        "preset": preset,
        "attention": recipe.model.attention,
        "remat": remat,
        "batch": scale.batch,
        "seconds per step": seconds,
        "images/s": scale.batch / seconds,
        "model TFLOP/s": flops / seconds / 1e12,
        "GiB": needed / _GIB,
    }
    peak = peak_flops(device.device_kind)
    return values | ({"MFU": flops / seconds / peak} if peak else {})


def _with_remat(recipe: Recipe, name: str) -> Recipe:
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, remat=name))
