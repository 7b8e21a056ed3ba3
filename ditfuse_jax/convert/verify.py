"""Comparison with reference numbers of the original code.

ditfuse convert --verify tests/golden/official_tiny
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.convert.reference import Reference, channels_last, read_numbers
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import Guidance, SamplingConfig, flow_matching_loss
from ditfuse_jax.model.lora import combine_trees, merge_lora
from ditfuse_jax.sample.sampler import make_sampler
from ditfuse_jax.weights import load_autoencoder, read_adapter
from ditfuse_jax.weights.maps import leaves

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison: the largest absolute error, relative to the largest expected value."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # NaN does not pass


def verify(folder: Path, quiet: bool = False) -> bool:
    """Prints a table of all checks that the folder has data for; returns whether all passed.

    Args:
      folder: laid out like `tests/golden/official_tiny`; `lora/` and `vae/` are optional.
      quiet: no output.

    Raises:
      UserError: the folder lacks the model or the numbers.
    """
    reference = Reference(folder)
    passed = []
    if not quiet:
        print(f"{'check':64} {'max relative error':>18}  {'limit':>7}")
    for check in checks(reference):
        passed.append(check.passed)
        if not quiet:
            verdict = "pass" if check.passed else "FAIL"
            print(f"{check.name:64} {check.error:18.2e}  {check.tolerance:7.0e}  {verdict}")
    if not quiet:
        print(f"{sum(passed)} of {len(passed)} checks passed")
    return all(passed)


def checks(reference: Reference) -> Iterator[Check]:
    """Runs the checks one by one, in float32 with matrix products of full precision."""
    with jax.default_matmul_precision("highest"):
        yield from _transformer(reference)
        if (reference.folder / "lora").is_dir():
            yield from _adapter(reference)
        if "sample/latents" in reference.golden:
            yield _sampling(reference)
        if (reference.folder / "vae" / "golden.safetensors").is_file():
            yield from _autoencoder(reference.folder / "vae")


def _transformer(reference: Reference) -> Iterator[Check]:
    golden = _require(reference, "x0", "x1", "t", "xt", "velocity", "latent_images")
    graph, condition = reference.graph(), reference.condition
    noise, image, noisy, expected = (
        channels_last(golden[name]) for name in ("x0", "x1", "xt", "velocity")
    )
    t = jnp.asarray(golden["t"])

    def losses(parameters):
        model = nnx.merge(graph, parameters)
        each = flow_matching_loss(
            lambda noisy, t: model(condition, noisy, t),
            model.config.prediction,
            image,
            noise[:, None],
            t[:, None],
        )
        return jnp.mean(each), each[:, 0]

    velocity = jax.jit(lambda p: nnx.merge(graph, p)(condition, noisy[:, None], t[:, None])[:, 0])
    yield _compare("velocity", velocity(reference.parameters), expected)

    @jax.jit
    def cached(parameters):
        model = nnx.merge(graph, parameters)
        return model.denoise(model.encode(condition), condition, noisy, t)

    yield _compare("velocity, cached condition", cached(reference.parameters), expected)
    gradient_names = sorted(name for name in golden if name.startswith("grad/"))
    if not gradient_names and "loss" not in golden:
        return
    (_, each), gradients = jax.jit(jax.value_and_grad(losses, has_aux=True))(reference.parameters)
    if "loss" in golden:
        yield _compare("loss", each, golden["loss"])
    table = leaves(reference.config())
    places = {
        tensor.name: (path, number)
        for path, leaf in table.items()
        for number, tensor in enumerate(leaf.tensors)
    }
    for name in gradient_names:
        original = name.removeprefix("grad/")
        if original not in places:
            raise UserError(f"{reference.folder}: {name} is the gradient of an unknown tensor")
        path, number = places[original]
        gradient = gradients
        for key in path:
            gradient = gradient[key]
        gradient = np.asarray(gradient)
        ours = table[path].to_original(gradient[number] if table[path].stacked else gradient)
        yield _compare(name, ours, golden[name], GRADIENT_TOLERANCE)


def _adapter(reference: Reference) -> Iterator[Check]:
    golden = _require(reference, "lora/velocity", "xt", "t")
    adapter = read_adapter(reference.folder / "lora", reference.config())
    expected, noisy = (channels_last(golden[name]) for name in ("lora/velocity", "xt"))
    t, condition = jnp.asarray(golden["t"]), reference.condition
    factors = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), adapter.leaves)
    ways = {
        "lora/velocity, around the model": (
            reference.graph(adapter.lora),
            combine_trees(reference.parameters, factors),
        ),
        "lora/velocity, merged": (
            reference.graph(),
            merge_lora(reference.parameters, factors, adapter.lora.scaling),
        ),
    }
    for name, (graph, parameters) in ways.items():

        @jax.jit
        def velocity(parameters, graph=graph):
            return nnx.merge(graph, parameters)(condition, noisy[:, None], t[:, None])[:, 0]

        yield _compare(name, velocity(parameters), expected)


def _sampling(reference: Reference) -> Check:
    golden, settings = _require(reference, "sample/noise"), reference.meta["sample"]
    weights = Guidance(settings["guidance_scale"], settings["img_guidance_scale"]).weights
    shares = jnp.asarray([weights[name] for name in ("cond", "img", "neg")])
    latents = make_sampler(reference.graph(), SamplingConfig(steps=settings["steps"]))(
        reference.parameters,
        reference.sampling,
        channels_last(golden["sample/noise"]),
        shares,
    )
    expected = channels_last(golden["sample/latents"])
    return _compare(f"{settings['steps']} guided Euler steps", latents, expected)


def _autoencoder(folder: Path) -> Iterator[Check]:
    loaded = load_autoencoder(folder)
    numbers = read_numbers(folder / "golden.safetensors")
    golden = {name: channels_last(value) for name, value in numbers.items()}

    @jax.jit
    def encode(parameters):
        return nnx.merge(loaded.graph, parameters).encode(golden["image"])

    @jax.jit
    def decode(parameters):
        return nnx.merge(loaded.graph, parameters).decode(golden["latents"])

    posterior = encode(loaded.parameters)
    yield _compare("vae/mean", posterior.mean, golden["mean"])
    yield _compare("vae/logvar", posterior.log_variance, golden["logvar"])
    yield _compare("vae/decoded", decode(loaded.parameters), golden["decoded"])


def _require(reference: Reference, *names: str) -> dict[str, np.ndarray]:
    for name in names:
        if name not in reference.golden:
            raise UserError(f"{reference.folder / 'golden.safetensors'} lacks {name}")
    return reference.golden


def _compare(name: str, ours, expected, tolerance: float = TOLERANCE) -> Check:
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    if ours.shape != expected.shape:
        raise UserError(f"{name}: the original has shape {expected.shape}, ours is {ours.shape}")
    return Check(name, float(np.abs(ours - expected).max() / np.abs(expected).max()), tolerance)
