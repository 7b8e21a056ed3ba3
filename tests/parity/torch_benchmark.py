"""Compares the speed with PyTorch's: the same model with the same weights, in one process.

    python tests/parity/torch_benchmark.py

Prints one JSON object.  Both implementations sample one image from two others (256 px as latents,
50 guided steps of three branches) and train on a batch of two, in float32 on the CPU.  They take
turns, so that other work on the machine slows both.  Processor time is reported beside wall-clock
time because other programs disturb it less.  The largest difference of the results is reported too.
"""

import argparse
import dataclasses
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import Guidance, SamplingConfig, flow_matching_loss, time_grid
from ditfuse_jax.model import Condition, Layout, ModelConfig
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.sample.sampler import make_sampler
from ditfuse_jax.train.run_folder import package_versions
from ditfuse_jax.weights import open_omnigen
from ditfuse_jax.weights.omnigen import parameters_from_original
from ditfuse_jax.working_memory import keep_working_memory

SIDE = 32  # of the latents of 256 px
CONFIG = ModelConfig(
    preset="torch_benchmark",
    hidden_size=384,
    num_layers=12,
    num_heads=6,
    num_kv_heads=6,
    intermediate_size=1024,
    vocab_size=2048,
    text_slots=(16, 8, 40),
)
TRAIN_BATCH = 2
_STEPS_PER_IMAGE = 3


class JaxModel:
    """This package's model with the weights of `folder`, as diffusers saves them."""

    def __init__(self, folder: Path, unroll: bool):
        opened = open_omnigen(folder, text_slots=CONFIG.text_slots)
        self.parameters = jax.device_put(parameters_from_original(opened.tensors, opened.config))
        model = dataclasses.replace(opened.config, unroll=unroll)
        graph, _ = make_graph(Network(model))
        self.graph = graph
        optimizer = optax.adamw(1e-3)

        def loss(parameters, condition, target, noise, t):
            return jnp.mean(
                flow_matching_loss(
                    functools.partial(nnx.merge(graph, parameters), condition),
                    model.prediction,
                    target,
                    noise[:, None],
                    t[:, None],
                )
            )

        def step(parameters, moments, *batch):
            value, gradients = jax.value_and_grad(loss)(parameters, *batch)
            updates, moments = optimizer.update(gradients, moments, parameters)
            return optax.apply_updates(parameters, updates), moments, value

        self.step = jax.jit(step, donate_argnums=(0, 1))
        # A copy, because a step donates its arguments.
        self.state = jax.tree.map(jnp.copy, self.parameters)
        self.moments = jax.jit(optimizer.init)(self.state)

    def sample(self, condition: Condition, noise, weights, steps: int) -> np.ndarray:
        """See `sample.sampler.sample`."""
        sampler = make_sampler(self.graph, SamplingConfig(steps=steps))
        return np.asarray(sampler(self.parameters, condition, noise, weights))

    def train_step(self, *batch) -> float:
        """One step of AdamW; returns the loss before it."""
        self.state, self.moments, value = self.step(self.state, self.moments, *batch)
        return float(value)


def compare(steps: int, repeats: int, unroll: bool = True) -> dict[str, Any]:
    """Runs both implementations in turns.

    Args:
      steps: Euler steps per image.
      repeats: timed images of each implementation, after one untimed; three times as many training
        steps, which are shorter.
      unroll: whether the JAX model's layers are unrolled, as PyTorch runs them, or a loop.

    Returns:
      Seconds, ratios (above 1: this package is faster) and relative differences of the results.

    Raises:
      UserError: PyTorch or diffusers is missing.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from torch_model import TorchModel
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing: install the extra `parity` to compare with PyTorch"
        ) from error
    grid = SIDE // CONFIG.patch_size
    theirs = TorchModel(CONFIG, Layout(text=CONFIG.text_slots, grid=(grid, grid)))
    with tempfile.TemporaryDirectory() as folder:
        theirs.save(Path(folder))
        ours = JaxModel(Path(folder), unroll)

    random = np.random.default_rng(0)
    guidance = Guidance()
    count = len(guidance.branches)
    shares = [guidance.weights[name] for name in guidance.branches]
    size = (SIDE, SIDE, CONFIG.channels)

    def condition(batch: int) -> Any:  # NumPy arrays, which PyTorch takes too
        length = sum(CONFIG.text_slots)
        leaves: list[Any] = [
            random.integers(1, CONFIG.vocab_size, (batch, length)),
            np.ones((batch, length), bool),
            random.standard_normal((batch, 2, *size)).astype("f4"),
            np.ones((batch, 2), bool),
        ]
        return Condition(*leaves)

    def to_torch(x: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))

    branches, noise = condition(count), random.standard_normal((1, *size)).astype("f4")
    stacked = Condition(*(jnp.asarray(x)[:, None] for x in branches))
    times = time_grid(steps).tolist()
    sampling = _take_turns(
        lambda: jax.block_until_ready(
            ours.sample(stacked, jnp.asarray(noise), jnp.asarray(shares), steps)
        ),
        lambda: theirs.sample(
            branches.tokens, to_torch(branches.images), to_torch(noise), shares, times
        ),
        repeats,
    )
    batch = condition(TRAIN_BATCH)
    target, draw = random.standard_normal((2, TRAIN_BATCH, *size)).astype("f4")
    t = random.uniform(size=TRAIN_BATCH).astype("f4")
    device_batch = jax.device_put((Condition(*batch), target, draw, t))
    training = _take_turns(
        lambda: ours.train_step(*device_batch),
        lambda: theirs.train_step(
            batch.tokens, to_torch(batch.images), to_torch(target), to_torch(draw), torch.tensor(t)
        ),
        _STEPS_PER_IMAGE * repeats,
        warm=3,  # the first steps allocate the memory that later ones reuse
    )
    (image, their_image), (loss, their_loss) = sampling.first, training.first
    their_image = np.moveaxis(their_image.numpy(), 1, -1)
    return {
        "device": jax.devices()[0].device_kind,
        "cpus": os.cpu_count(),
        "versions": package_versions() | {"torch": torch.__version__},
        "torch_threads": torch.get_num_threads(),
        "tokens": theirs.layout.length,
        "unroll": unroll,
        "steps": steps,
        "branches": count,
        "train_batch": TRAIN_BATCH,
        "sampling": sampling.summary(),
        "training": training.summary(),
        "sample_difference": float(np.abs(image - their_image).max() / np.abs(their_image).max()),
        "loss_difference": abs(loss - their_loss) / their_loss,
    }


@dataclasses.dataclass(frozen=True)
class Turns:
    """Timings of two implementations that took turns.

    Attributes:
      first: the results of the untimed repetition, ours and theirs.
      ours: wall-clock and processor seconds (all threads) of each repetition.
      theirs: the same of PyTorch.
    """

    first: tuple[Any, Any]
    ours: list[tuple[float, float]]
    theirs: list[tuple[float, float]]

    def summary(self) -> dict[str, float]:
        """Medians and minima; a ratio above 1 means that this package is faster."""
        found = {}
        for clock, name in enumerate(("seconds", "cpu_seconds")):
            ours, theirs = ([x[clock] for x in side] for side in (self.ours, self.theirs))
            for kind, of in (("median", statistics.median), ("fastest", min)):
                found[f"our_{kind}_{name}"] = of(ours)
                found[f"torch_{kind}_{name}"] = of(theirs)
                found[f"times_torch_{kind}_{name}"] = of(theirs) / of(ours)
        return found


def _take_turns(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int, warm: int = 1
) -> Turns:
    first, *_ = [(ours(), theirs()) for _ in range(warm)]
    taken: tuple[list, list] = ([], [])
    for _ in range(repeats):
        for run, seconds in zip((ours, theirs), taken, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    return Turns(first, *taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--loop", action="store_true", help="do not unroll the JAX model's layers")
    args = parser.parse_args()
    keep_working_memory()  # as training does; PyTorch benefits too
    print(json.dumps(compare(args.steps, args.repeats, not args.loop), indent=2))


if __name__ == "__main__":
    main()
