"""The calls to cuDNN; `test_implementations.py` tests the numbers without a GPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.model import Layout
from ditfuse_jax.model.attention import attend, cudnn

LAYOUT = Layout(text=(4, 2, 2), grid=(2, 3))  # 27 tokens, an odd number


class Version:
    """Replaces JAX's CUDA plugin, of which tracing uses the version only."""

    @staticmethod
    def cudnn_get_version() -> int:
        return 91000


@pytest.fixture
def lowered(monkeypatch):
    """Returns a function that lowers attention with gradients to calls of cuDNN and operands."""
    stablehlo = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{stablehlo}.cuda_versions", Version)

    def lower(name, dtype=jnp.bfloat16, dim=96):
        mask = LAYOUT.full_mask

        def total(q, k, v, valid):
            out = attend(q, k, v, mask, valid, implementation=name)
            return jnp.sum(out.astype(jnp.float32))

        q = jax.ShapeDtypeStruct((2, mask.num_queries, 4, dim), dtype)
        k = jax.ShapeDtypeStruct((2, mask.num_keys, 2, dim), dtype)
        valid = jax.ShapeDtypeStruct((2, mask.num_keys), bool)
        gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
        text = gradients.trace(q, k, k, valid).lower(lowering_platforms=("cuda",)).as_text()
        return re.findall(r"@(__cudnn[\w$]+)\(.*: \((.*?)\) ->", text)

    return lower


def test_attend_makes_one_call_forward_and_one_backward_with_even_lengths(lowered):
    calls = lowered("cudnn")
    names = [name for name, _ in calls]
    assert sorted(names) == ["__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward"]
    for _, operands in calls:
        assert "tensor<2x28x4x96xbf16>" in operands
        assert "tensor<2x1x28x28xbf16>" in operands  # one bias for all heads


def test_split_calls_have_a_bias_only_for_text(lowered):
    names = [name for name, _ in lowered("cudnn_split")]
    texts = sum(part.causal_tail for part in LAYOUT.full_mask.parts)
    assert texts == 3
    for direction in ("", "Backward"):
        assert names.count(f"__cudnn$fmhaScaleBiasSoftmax{direction}") == texts
        dense = len(LAYOUT.full_mask.parts) - texts
        assert names.count(f"__cudnn$fmhaSoftmax{direction}") == dense


def test_split_calls_pad_the_head_dimension_to_a_multiple_of_8(lowered):
    for _, operands in lowered("cudnn_split", dim=96):
        assert "x104xbf16>" in operands


@pytest.mark.parametrize("name", ["cudnn", "cudnn_split"])
def test_float32_does_not_use_cudnn(lowered, name):
    assert lowered(name, jnp.float32) == []


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_weight_of_a_padded_key_is_zero_for_every_head_dimension(dtype):
    for dim in (8, 96, 256, 512):
        score = jnp.asarray(cudnn._HIDDEN, dtype).astype(jnp.float32) * dim**-0.5
        assert np.exp(np.float32(score + 1000)) == 0.0
