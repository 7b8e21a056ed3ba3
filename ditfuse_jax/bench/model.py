"""Benchmarks of the model: training steps and sampling."""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.bench.measurement import Measurement, time_repeats
from ditfuse_jax.model import Condition
from ditfuse_jax.model.flops import condition_flops, draw_flops
from ditfuse_jax.model.network import make_graph
from ditfuse_jax.parallel import Partitioner, make_mesh
from ditfuse_jax.pipeline import fixed_batch
from ditfuse_jax.sample.sampler import make_sampler
from ditfuse_jax.train.compile import compile_step, to_devices
from ditfuse_jax.train.console import Console
from ditfuse_jax.train.for_devices import with_attention, with_remat
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.initial import load_frozen
from ditfuse_jax.train.optimizer import learning_rate, make_optimizer
from ditfuse_jax.train.recorder import Recorder, example_flops
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import abstract_state, create_state
from ditfuse_jax.train.step import Metrics, make_train_step, model_inputs
from ditfuse_jax.train.writers import MultiWriter, make_writers


def bench_train(recipe: Recipe, repeats: int) -> Measurement:
    """Measures training steps on one fixed batch, compiled as the training loop compiles them."""
    setup = _Setup(recipe)
    recipe = setup.recipe
    setup.partitioner.check_batch(recipe.data.batch_size, recipe.step.accumulation)
    optimizer = make_optimizer(recipe.optimizer, recipe.train.steps)
    ema = recipe.step.ema_decay > 0
    abstract = abstract_state(recipe.network, optimizer, ema, setup.partitioner)
    started = time.perf_counter()
    recipe, _, compiled = with_remat(
        recipe, setup.partitioner, optimizer, abstract, setup.space, setup.frozen, setup.batch
    )
    if compiled:
        (step,) = compiled.values()
    else:
        graph, _ = make_graph(recipe.network)
        function = make_train_step(graph, optimizer, recipe.step, setup.partitioner, setup.space)
        options = recipe.train.compiler_options
        step = compile_step(
            function, setup.partitioner, abstract, setup.frozen, setup.batch, options
        )
    compile_seconds = time.perf_counter() - started
    state = create_state(recipe.network, optimizer, ema, recipe.seed, abstract)

    def run() -> Any:
        nonlocal state
        state, metrics = step(state, setup.frozen, setup.batch)
        return metrics

    size = recipe.data.batch_size
    flops = example_flops(recipe, setup.batch) * size
    memory = step.memory_analysis()
    facts = {
        "batch_size": size,
        "crop": recipe.data.crop,
        "attention": recipe.model.attention,
        "remat": recipe.model.remat,
        "compile_seconds": compile_seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "host_ms_per_step": _host_seconds(recipe, setup, jax.block_until_ready(run())) * 1e3,
    }
    return Measurement(time_repeats(run, repeats), size, flops, facts)


def _host_seconds(recipe: Recipe, setup: "_Setup", metrics: Metrics, steps: int = 200) -> float:
    """Measures the host's own work per step: placing a batch; fetching and writing metrics.

    Returns:
      Processor seconds of the loop's thread, without waiting for devices or data.
    """
    batch = jax.device_get(setup.batch)
    goodput = Goodput()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        writer = MultiWriter(make_writers(recipe.train.writers, run, {}))
        console = Console(steps, 0, recipe.data.batch_size, quiet=True)
        rate = learning_rate(recipe.optimizer, recipe.train.steps)
        recorder = Recorder(recipe, rate, console, writer, goodput)
        recorder.start(0)
        started = 0.0
        for step in range(2 * steps):
            if step == steps:  # the first half warms up
                started = time.thread_time()
            with goodput.measure("data"):
                to_devices(batch, setup.partitioner)
            recorder.push(step + 1, metrics, 0.0)
        seconds = time.thread_time() - started
        writer.close()
        console.close()
    return seconds / steps


def bench_sample(recipe: Recipe, repeats: int) -> Measurement:
    """Measures guided sampling of one batch at the recipe's crop size with random parameters.

    The autoencoder of a latent model is not included.
    """
    setup = _Setup(recipe)
    recipe = setup.recipe
    model, sampling = recipe.model, recipe.sampling
    _, state = make_graph(recipe.network)
    shardings = setup.partitioner.parameters(state)
    initialise = jax.jit(
        lambda key: nnx.to_pure_dict(nnx.state(recipe.network.build(key), nnx.Param)),
        out_shardings=shardings,
    )
    parameters = initialise(jax.random.key(recipe.seed))
    size = recipe.data.batch_size
    height, width = recipe.data.crop
    shape = setup.space.shape(height, width)
    count = setup.batch["images"].shape[1]
    posterior_noise = jax.random.normal(jax.random.key(1), (size, count + 1, *shape))
    condition, image = model_inputs(
        setup.batch, setup.space, setup.frozen.autoencoder, posterior_noise
    )
    branches = sampling.guidance.branches
    stacked = Condition(*(jnp.stack([leaf] * len(branches)) for leaf in condition))
    weights = sampling.guidance.weights
    shares = jnp.asarray([weights[name] for name in branches])
    noise = jax.random.normal(jax.random.key(0), image.shape)
    sampler = make_sampler(make_graph(recipe.network)[0], dataclasses.replace(sampling, tile=0))

    patches = height * width // model.pixels_per_token**2
    text = float(setup.batch["token_valid"].sum()) / size
    per_branch = condition_flops(model, text, count, patches)
    per_branch += sampling.num_evaluations * draw_flops(model, text + count * patches, patches)
    facts = {
        **dataclasses.replace(sampling, tile=0, global_steps=0, batch_size=size).to_dict(),
        "crop": recipe.data.crop,
        "attention": model.attention,
        "branches": len(branches),
    }
    seconds = time_repeats(lambda: sampler(parameters, stacked, noise, shares), repeats)
    return Measurement(seconds, size, per_branch * len(branches) * size, facts)


class _Setup:
    """Devices, the frozen autoencoder and one batch, which both benchmarks need."""

    def __init__(self, recipe: Recipe):
        self.partitioner = Partitioner(make_mesh(recipe.mesh))
        self.recipe, _ = with_attention(recipe, self.partitioner.mesh.devices.flat[0])
        self.space, self.frozen = load_frozen(recipe, self.partitioner)
        batch = fixed_batch(recipe.data, recipe.data.batch_size)
        self.batch = to_devices(batch, self.partitioner)
