"""LoRA adapters that are added to an existing model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import DiTFuse
from ditfuse_jax.model.lora import (
    LoRAConfig,
    combine_trees,
    match_target_modules,
    merge_lora,
    split_lora,
)
from ditfuse_jax.model.lora_layers import add_lora

pytestmark = [pytest.mark.usefixtures("exact_products"), pytest.mark.medium]

EVERYWHERE = ("all-linear", "x_embedder", "input_x_embedder")


class Adapted:
    """A tiny model with random adapters."""

    def __init__(self, models, base, lora):
        self.config = base
        self.lora = lora

        def build():
            model = DiTFuse(base, rngs=nnx.Rngs(0))
            add_lora(model, lora, rngs=nnx.Rngs(1))
            return model

        self.graph, state = nnx.split(nnx.eval_shape(build))
        self.plain_graph, _ = models.graph(base)
        self.base = models.parameters(base)
        keys = iter(jax.random.split(jax.random.key(2), 100))
        shapes, _ = split_lora(nnx.to_pure_dict(state))
        self.factors = jax.tree.map(lambda x: 0.2 * jax.random.normal(next(keys), x.shape), shapes)
        condition = models.condition(base, batch=2)
        noisy, t = models.targets(base, batch=2)

        def run(graph, parameters):
            forward = models.jit(lambda p: nnx.merge(graph, p)(condition, noisy, t))
            return np.asarray(forward(parameters))

        self.run = run


@pytest.fixture(scope="module", params=["LATENT", "PIXEL"])
def adapted(request, models):
    return Adapted(models, getattr(models, request.param), LoRAConfig(3, 1.5, EVERYWHERE))


def test_a_fresh_adapter_changes_nothing(adapted):
    zero = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros_like(x) if path[-1].key == "lora_b" else x, adapted.factors
    )
    with_zero = adapted.run(adapted.graph, combine_trees(adapted.base, zero))
    without = adapted.run(adapted.plain_graph, adapted.base)
    np.testing.assert_array_equal(with_zero, without)


def test_a_model_with_adapters_computes_the_same_as_with_merged_kernels(adapted):
    around = adapted.run(adapted.graph, combine_trees(adapted.base, adapted.factors))
    merged = merge_lora(adapted.base, adapted.factors, adapted.lora.scaling)
    inside = adapted.run(adapted.plain_graph, merged)
    plain = adapted.run(adapted.plain_graph, adapted.base)
    scale = np.abs(around).max()
    assert np.abs(around - inside).max() < 1e-4 * scale
    assert np.abs(around - plain).max() > 1e-2 * scale


def test_merging_twice_adds_the_scalings(adapted):
    scaling = adapted.lora.scaling
    twice = merge_lora(
        merge_lora(adapted.base, adapted.factors, 0.25 * scaling), adapted.factors, 0.75 * scaling
    )
    once = merge_lora(adapted.base, adapted.factors, scaling)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), twice, once)


def test_merging_keeps_the_dtype_of_the_kernels(adapted):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), adapted.base)
    merged = merge_lora(half, adapted.factors, 1.0)
    assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype(jnp.bfloat16)}


def test_split_lora_separates_the_factors_from_the_model(adapted):
    factors, others = split_lora(combine_trees(adapted.base, adapted.factors))
    assert jax.tree.structure(factors) == jax.tree.structure(adapted.factors)
    assert jax.tree.structure(others) == jax.tree.structure(adapted.base)
    names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(factors)}
    assert names == {"lora_a", "lora_b"}


def test_factors_of_scanned_layers_are_stacked(models):
    lora = LoRAConfig(3, 3.0, ("qkv_proj", "down_proj"))
    adapted = Adapted(models, models.LATENT, lora)
    layers, width = models.LATENT.num_layers, models.LATENT.hidden_size
    attention = adapted.factors["transformer"]["layers"]["self_attn"]
    assert set(attention) == {"qkv_proj"}
    kernel = adapted.base["transformer"]["layers"]["self_attn"]["qkv_proj"]["kernel"]
    assert attention["qkv_proj"]["lora_a"].shape == (layers, width, 3)
    assert attention["qkv_proj"]["lora_b"].shape == (layers, 3, *kernel.shape[2:])


def test_all_linear_means_every_linear_layer_except_patch_embedders(models):
    names = [
        ".".join(map(str, path))
        for path, module in nnx.iter_modules(
            nnx.eval_shape(lambda: DiTFuse(models.PIXEL, rngs=nnx.Rngs(0)))
        )
        if hasattr(module, "kernel")
    ]
    found = set(match_target_modules(names, ("all-linear",)))
    assert set(names) - found == {"x_embedder", "input_x_embedder", "source_embedder"}


def test_a_target_matches_the_end_of_a_path():
    names = ["a.qkv_proj", "b.qkv_proj", "b.my_qkv_proj"]
    assert match_target_modules(names, ("qkv_proj",)) == ["a.qkv_proj", "b.qkv_proj"]
    assert match_target_modules(names, ("b.qkv_proj",)) == ["b.qkv_proj"]


def test_an_unknown_target_is_refused_with_the_known_names():
    with pytest.raises(UserError, match=r"'q_proj' matches no linear layer; there are qkv_proj"):
        match_target_modules(["qkv_proj"], ("q_proj",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"target_modules": ()}, "target_modules must be a tuple"),
        ({"target_modules": "qkv_proj"}, "target_modules must be a tuple"),
    ],
)
def test_invalid_options_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(LoRAConfig(4, 4.0, ("qkv_proj",)), **changes)


def test_scaling_is_alpha_over_rank_or_over_its_root():
    assert LoRAConfig(64, 32.0, ("x",)).scaling == 0.5
    assert LoRAConfig(16, 8.0, ("x",), use_rslora=True).scaling == 2.0


def test_an_adapter_of_another_model_is_refused_with_all_shapes(models):
    small = models.parameters(models.LATENT)
    other = dataclasses.replace(models.LATENT, intermediate_size=40)
    adapted = Adapted(models, other, LoRAConfig(2, 2.0, ("down_proj",)))
    message = r"transformer\.layers\.mlp\.down_proj has factors of shapes .* made for another"
    with pytest.raises(UserError, match=message):
        merge_lora(small, adapted.factors, 1.0)
