"""Optimizers: memory of their options, convergence, and their state in checkpoints."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.train import load_recipe, resolve
from ditfuse_jax.train.checkpoint import Checkpoints
from ditfuse_jax.train.optimizer import OptimizerConfig, make_optimizer
from ditfuse_jax.train.state import abstract_state

pytestmark = pytest.mark.medium

ADAMW = OptimizerConfig(
    learning_rate=0.05,
    schedule="constant",
    warmup_steps=1,
    weight_decay=0.0,
    b1=0.9,
    b2=0.99,
    clip=1.0,
)
OPTIONS = {
    "adamw": ADAMW,
    "adamw, bfloat16": dataclasses.replace(ADAMW, moment_dtype="bfloat16"),
    "adafactor": dataclasses.replace(ADAMW, kind="adafactor"),
    "adafactor, bfloat16": dataclasses.replace(ADAMW, kind="adafactor", moment_dtype="bfloat16"),
}


def regression_loss(config: OptimizerConfig, steps: int = 150) -> float:
    """Returns the final loss of a small two-layer regression, relative to the first."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (64, 48))
    wanted = jnp.sin(x @ jax.random.normal(jax.random.key(1), (48, 40)))
    parameters = {
        "a": 0.1 * jax.random.normal(jax.random.key(2), (48, 64)),
        "b": 0.1 * jax.random.normal(jax.random.key(3), (64, 40)),
        "bias": jnp.zeros(40),
    }
    optimizer = make_optimizer(config, steps)

    def loss(p):
        return jnp.mean((jnp.tanh(x @ p["a"]) @ p["b"] + p["bias"] - wanted) ** 2)

    def update(carry, _):
        parameters, state = carry
        updates, state = optimizer.update(jax.grad(loss)(parameters), state, parameters)
        return (optax.apply_updates(parameters, updates), state), None

    start = parameters, optimizer.init(parameters)
    (trained, _), _ = jax.jit(lambda c: jax.lax.scan(update, c, length=steps))(start)
    return float(loss(trained) / loss(parameters))


@pytest.fixture(scope="module")
def losses():
    return {name: regression_loss(config) for name, config in OPTIONS.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_optimizer_learns_about_as_well_as_adamw(losses, name):
    assert losses["adamw"] < 0.05
    assert losses[name] < 2 * losses["adamw"] + 0.01


def test_the_options_change_the_numbers(losses):
    assert len(set(losses.values())) == len(OPTIONS)


def test_bfloat16_halves_the_first_moment_and_factors_shrink_the_second():
    parameters = {"w": jnp.zeros((256, 512))}

    def size(name: str) -> int:
        state = make_optimizer(OPTIONS[name], 10).init(parameters)
        return sum(x.nbytes for x in jax.tree.leaves(state))

    whole = parameters["w"].nbytes
    assert size("adamw") == pytest.approx(2 * whole, rel=0.01)
    assert size("adamw, bfloat16") == pytest.approx(1.5 * whole, rel=0.01)
    assert size("adafactor") == pytest.approx(whole, rel=0.01)
    assert size("adafactor, bfloat16") == pytest.approx(0.5 * whole, rel=0.02)


@pytest.mark.parametrize("word", ["kind=sgd", "moment_dtype=float16"])
def test_an_unknown_option_is_refused_by_name(tiny, word):
    with pytest.raises(UserError, match=rf"optimizer\.{word.split('=')[0]} .* choose from"):
        resolve(tiny(f"--config.optimizer.{word}"))


@pytest.mark.parametrize(
    "arguments", [(), ("kind=adafactor",), ("kind=muon",), ("moment_dtype=bfloat16",)]
)
def test_a_state_is_restored_from_its_checkpoint_to_the_bit(tiny, tmp_path, arguments):
    recipe = resolve(tiny(*(f"--config.optimizer.{word}" for word in arguments)))
    partitioner = Partitioner(make_mesh(MeshConfig(), jax.devices()[:1]))
    optimizer = make_optimizer(recipe.optimizer, 10)
    abstract = abstract_state(recipe.network, optimizer, True, partitioner)
    random = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: jnp.asarray(random.normal(size=x.shape) * 9, x.dtype, device=x.sharding), abstract
    )
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state, {})
    checkpoints.wait()
    restored = checkpoints.restore(3, abstract)
    checkpoints.close()
    for found, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_factored_moments_are_sharded_like_their_parameters():
    recipe = resolve(load_recipe("omnigen_pretrain", ["--config.optimizer.kind=adafactor"]))
    mesh = jax.sharding.AbstractMesh((1, 8, 1, 4), ("data", "fsdp", "context", "tensor"))
    optimizer = make_optimizer(recipe.optimizer, 10)
    abstract = abstract_state(recipe.network, optimizer, False, Partitioner(mesh))
    total = sum(x.size for x in jax.tree.leaves(abstract.parameters))
    optimizer_state: Any = abstract.optimizer
    factored = optimizer_state[1][0]
    assert sum(x.size for x in jax.tree.leaves(factored)) < 0.02 * total
    down = ("transformer", "layers", "mlp", "down_proj", "kernel")  # (layers, mlp, embed)
    specs = []
    for tree in (factored.v_row, factored.v_col):
        for key in down:
            tree = tree[key]
        specs.append((tree.shape, tuple(tree.sharding.spec)))
    assert specs == [((32, 3072), (None, "fsdp")), ((32, 8192), (None, "tensor"))]


def test_muon_moves_every_matrix_of_the_transformer_equally_in_all_directions():
    random = np.random.default_rng(0)

    def kernel(*shape):
        return {"kernel": jnp.asarray(random.normal(size=shape), jnp.float32)}

    blocks = {
        "qkv_proj": kernel(2, 32, 4, 3, 8),
        "o_proj": kernel(2, 4, 8, 32),
        "gate_up_proj": kernel(2, 32, 2, 32),
        "down_proj": kernel(2, 32, 32),
    }
    gradients = {"transformer": blocks, "head": kernel(32, 32)}
    optimizer = make_optimizer(dataclasses.replace(ADAMW, kind="muon", clip=1e9), 10)
    updates: Any = optimizer.update(gradients, optimizer.init(gradients), gradients)[0]
    moved = updates["transformer"]
    matrices = [
        jnp.moveaxis(moved["qkv_proj"]["kernel"], 3, 1).reshape(6, 32, 32),
        moved["o_proj"]["kernel"].reshape(2, 32, 32),
        jnp.moveaxis(moved["gate_up_proj"]["kernel"], 2, 1).reshape(4, 32, 32),
        moved["down_proj"]["kernel"],
    ]
    # Of an orthogonal matrix with the root mean square of AdamW's updates.
    usual = 0.2 * ADAMW.learning_rate * 32**0.5
    for matrix in matrices:
        values = np.linalg.svd(np.asarray(matrix), compute_uv=False)
        assert values.max() < 1.5 * usual
        assert np.quantile(values, 0.1) > 0.5 * usual  # the gradient's: a tenth of its largest
    # All other parameters: AdamW's first step has one size, whatever the gradient's.
    sizes = np.abs(updates["head"]["kernel"])
    np.testing.assert_allclose(sizes, sizes.mean(), rtol=1e-2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("b1", 1.0, "optimizer.b1 must be from 0 to below 1, not 1.0"),
        ("b2", -0.1, "optimizer.b2 must be from 0 to below 1, not -0.1"),
        ("b2", float("nan"), "optimizer.b2 must be from 0"),
        ("weight_decay", -0.1, "optimizer.weight_decay must be at least 0, not -0.1"),
    ],
)
def test_decays_outside_their_range_are_refused(name, value, message):
    with pytest.raises(UserError, match=message):
        OptimizerConfig(**{name: value})
