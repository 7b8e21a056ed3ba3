"""The formulas for model FLOPs, compared with the products of traced programs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.interpreters import partial_eval

from ditfuse_jax.model import DiTFuse
from ditfuse_jax.model.flops import (
    condition_flops,
    draw_flops,
    forward_flops,
    training_flops,
)
from ditfuse_jax.model.lora import LoRAConfig, combine_trees, split_lora
from ditfuse_jax.model.lora_flops import lora_training_flops
from ditfuse_jax.model.lora_layers import add_lora


def traced_flops(jaxpr) -> int:
    """Counts two FLOPs per multiply-add of all matrix products, in scans once per iteration."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval
            depth = math.prod(left.shape[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * depth
        iterations = equation.params["length"] if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(item, "jaxpr", item)  # closed or not
                if hasattr(inner, "eqns"):
                    total += iterations * traced_flops(inner)
    return total


class Traced:
    """The products of one model, and the arguments of the formulas."""

    def __init__(self, models, config, num_images, draws):
        self.config, self.draws = config, draws
        condition = models.condition(config, batch=1, num_images=num_images)
        noisy, t = models.targets(config, batch=1, draws=draws)
        graph, state = models.graph(config)
        self.layout = nnx.merge(graph, state).layout(condition, draws)
        # All text slots are full, because padding is not counted.
        self.sizes = {
            "num_text": sum(self.layout.text),
            "num_images": num_images,
            "patches": self.layout.num_patches,
        }

        def full(state):
            return nnx.merge(graph, state)(condition, noisy, t)

        def encode(state):
            return nnx.merge(graph, state).encode(condition)

        def denoise(state, encoded):
            return nnx.merge(graph, state).denoise(encoded, condition, noisy[:, 0], t[:, 0])

        self.full = traced_flops(jax.make_jaxpr(full)(state).jaxpr)
        encoded = jax.eval_shape(encode, state)
        self.encode = traced_flops(jax.make_jaxpr(encode)(state).jaxpr)
        self.denoise = traced_flops(jax.make_jaxpr(denoise)(state, encoded).jaxpr)

    def hidden_pairs(self, mask) -> int:
        """Returns the FLOPs of the reference attention for masked-out pairs."""
        forbidden = mask.dense().size - mask.num_pairs()
        return self.config.num_layers * 4 * self.config.hidden_size * forbidden

    def unused(self) -> int:
        """Returns the FLOPs of the last layer for unused outputs of condition tokens."""
        config, length = self.config, self.layout.condition_length
        width, dim = config.hidden_size, config.head_dim
        queries_and_output = 2 * 2 * width * config.num_heads * dim
        mlp = 2 * 3 * width * config.intermediate_size
        attention = 4 * width * self.layout.condition_mask.num_pairs()
        return length * (queries_and_output + mlp) + attention


@pytest.fixture(scope="module")
def trace(models):
    """Returns a function that traces a tiny model with dense attention, which is easy to count."""

    def build(base, *, num_images=2, draws=1, **changes):
        config = dataclasses.replace(base, attention="reference", num_layers=3, **changes)
        return Traced(models, config, num_images, draws)

    return build


def test_a_forward_pass_counts_its_products_without_masked_pairs_and_unused_outputs(models, trace):
    for num_images, draws in ((1, 1), (2, 1), (4, 1), (2, 3)):
        traced = trace(models.LATENT, num_images=num_images, draws=draws)
        counted = forward_flops(traced.config, **traced.sizes, draws=draws)
        assert (
            counted == traced.full - traced.hidden_pairs(traced.layout.full_mask) - traced.unused()
        )


def test_a_pixel_model_counts_its_products_without_the_blending(models, trace):
    traced = trace(models.PIXEL, num_images=models.PIXEL.max_images)
    counted = forward_flops(traced.config, **traced.sizes)
    # The formula does not include the blending: a product per source, pixel and channel.
    blending = 2 * traced.sizes["num_images"] * math.prod(models.image_shape(traced.config))
    hidden = traced.hidden_pairs(traced.layout.full_mask)
    assert counted == traced.full - hidden - traced.unused() - blending


def test_the_skip_connection_from_the_sources_is_counted_once_for_all_draws(models, trace):
    one, three = (trace(models.PIXEL, num_images=3, draws=k) for k in (1, 3))
    ours = forward_flops(three.config, **three.sizes, draws=3) - forward_flops(
        one.config, **one.sizes
    )
    blending = 2 * 2 * 3 * math.prod(models.image_shape(one.config))
    hidden = three.hidden_pairs(three.layout.full_mask) - one.hidden_pairs(one.layout.full_mask)
    assert ours == three.full - one.full - hidden - blending


def test_absent_images_are_not_counted(models):
    few, many = (dataclasses.replace(models.PIXEL, max_images=n) for n in (2, 4))
    sizes = {"num_text": 10, "num_images": 2, "patches": 6}
    # Only the head's outputs depend on `max_images`.
    width, patch = few.hidden_size, few.patch_size
    head = 2 * sizes["patches"] * width * patch**2 * (many.max_images - few.max_images)
    assert forward_flops(many, **sizes) - forward_flops(few, **sizes) == head


def test_draw_flops_count_the_products_of_denoise(models, trace):
    traced = trace(models.LATENT)
    counted = draw_flops(traced.config, traced.layout.condition_length, traced.sizes["patches"])
    assert counted == traced.denoise - traced.hidden_pairs(traced.layout.draw_mask)


def test_condition_flops_count_the_products_of_encode(models, trace):
    traced = trace(models.LATENT)
    counted = condition_flops(traced.config, *traced.sizes.values())
    # The dense reference also computes these in the last layer, where they are not used.
    last_layer = traced.hidden_pairs(traced.layout.condition_mask)
    assert counted == traced.encode - last_layer - traced.unused()


def test_training_costs_three_forward_passes(models):
    sizes = {"num_text": 10, "num_images": 2, "patches": 6, "draws": 2}
    assert training_flops(models.LATENT, **sizes) == 3 * forward_flops(models.LATENT, **sizes)


# Adapted layers -> layers of the first block whose input gradients are not needed.
ADAPTED = {
    ("qkv_proj", "o_proj"): ("qkv",),
    ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"): ("qkv",),
    ("gate_up_proj",): ("qkv", "attention", "o", "gate_up"),
    ("o_proj", "input_x_embedder"): (),
}


@pytest.mark.parametrize("targets", ADAPTED)
@pytest.mark.parametrize("draws", [1, 3])
def test_training_adapters_counts_the_products_that_their_gradients_need(
    models, trace, targets, draws
):
    traced = trace(models.LATENT, draws=draws)
    config, layout = traced.config, traced.layout
    lora = LoRAConfig(rank=2, alpha=2.0, target_modules=targets)
    condition = models.condition(config, batch=1)
    noisy, t = models.targets(config, batch=1, draws=draws)

    def build():
        model = DiTFuse(config, rngs=nnx.Rngs(0))
        add_lora(model, lora, rngs=nnx.Rngs(1))
        return model

    graph, state = nnx.split(nnx.eval_shape(build))
    factors, frozen = split_lora(nnx.to_pure_dict(state))

    def loss(factors, frozen):
        return jnp.sum(nnx.merge(graph, combine_trees(frozen, factors))(condition, noisy, t) ** 2)

    jaxpr = jax.make_jaxpr(jax.grad(loss))(factors, frozen).jaxpr
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))

    # The scan computes the same for all layers: also unused outputs of the last one, forward and
    # backward, and gradients in the first one before the first adapter.
    width, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
    sizes = {
        "qkv": 2 * width * (config.num_heads + 2 * config.num_kv_heads) * dim,
        "o": 2 * width * width,
        "gate_up": 4 * width * inner,
        "down": 2 * width * inner,
    }
    length = layout.condition_length
    unused = 2 * (sizes["o"] + sizes["gate_up"] + sizes["down"] + 2 * width * width)
    wasted = length * unused + 3 * 4 * width * layout.condition_mask.num_pairs()
    for name, extra in (
        ("qkv_proj", config.num_heads * dim),
        ("o_proj", 2 * width),
        ("gate_up_proj", width + 2 * inner),
        ("down_proj", width + inner),
    ):
        wasted += 3 * 2 * lora.rank * length * extra * (name in targets)
    tokens = length + draws * layout.draw_length
    for name in ADAPTED[targets]:
        if name == "attention":
            wasted += 2 * 4 * width * layout.full_mask.num_pairs()
        else:
            wasted += sizes[name] * tokens
    if "qkv_proj" in targets:  # the adapter's own gradient of the first layer's input
        wasted += 2 * lora.rank * width * tokens
    if "gate_up_proj" in targets and "o_proj" not in targets:
        wasted += 2 * lora.rank * width * tokens
    wasted += 3 * traced.hidden_pairs(layout.full_mask)
    counted = lora_training_flops(config, lora, **traced.sizes, draws=draws)
    assert counted == traced_flops(live) - wasted


def test_omnigen_needs_about_two_flops_per_parameter_and_token(models):
    """The usual estimate 2 * parameters * tokens holds if attention is a small part."""
    config = dataclasses.replace(
        models.LATENT,
        hidden_size=3072,
        num_heads=32,
        num_kv_heads=32,
        num_layers=32,
        intermediate_size=8192,
    )
    tokens = 100 + 3 * 256
    estimate = 2 * 32 * (4 * 3072**2 + 3 * 3072 * 8192) * tokens
    assert forward_flops(config, num_text=100, num_images=2, patches=256) == pytest.approx(
        estimate, rel=0.1
    )
