"""`model.attention=auto`: which implementation a device gets."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from ditfuse_jax.model import PRESETS, Layout, preset
from ditfuse_jax.model.attention import IMPLEMENTATIONS, attend, auto, cudnn


@dataclasses.dataclass(frozen=True)
class Device:
    """The attributes of a JAX device that decide."""

    platform: str
    device_kind: str
    compute_capability: str = ""


TPU = Device("tpu", "TPU v6 lite")
H100 = Device("gpu", "NVIDIA H100 80GB HBM3", "9.0")
A100 = Device("gpu", "NVIDIA A100-SXM4-80GB", "8.0")
V100 = Device("gpu", "Tesla V100-SXM2-16GB", "7.0")


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(cudnn, "available", lambda: True)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "name", "reason"),
    [
        (TPU, "bfloat16", 96, "splash", "TPU v6 lite"),
        (TPU, "float32", 48, "splash", "TPU v6 lite"),
        (Device("tpu", "TPU v3"), "bfloat16", 96, "xla", "TPU v3 cannot run splash"),
        (H100, "bfloat16", 96, "cudnn_split", "H100"),
        (H100, "bfloat16", 128, "cudnn_split", "H100"),  # 136 channels
        (A100, "bfloat16", 96, "cudnn_split", "A100"),
        (A100, "bfloat16", 128, "cudnn", "no room beside head dimension 128"),
        (A100, "bfloat16", 132, "xla", "multiples of 8 up to 128, not 132"),
        (H100, "bfloat16", 320, "xla", "up to 256, not 320"),
        (H100, "float32", 96, "xla", "needs model.dtype=bfloat16"),
        (V100, "bfloat16", 96, "xla", "older than cuDNN's attention"),
        (Device("cpu", "cpu"), "bfloat16", 96, "xla", "cpu"),
    ],
)
def test_the_device_the_type_and_the_head_dimension_decide(device, dtype, head_dim, name, reason):
    choice = auto.choose_attention(device, dtype, head_dim)
    assert choice.name == name
    assert reason in choice.reason


def test_without_the_cuda_plugin_a_gpu_gets_xla(monkeypatch):
    monkeypatch.setattr(cudnn, "available", lambda: False)
    assert auto.choose_attention(H100, "bfloat16", 96).name == "xla"


@pytest.mark.parametrize("dim", [95, 96, 97, 127, 128])
def test_split_calls_have_the_head_dimension_that_the_choice_assumes(monkeypatch, dim):
    seen = []
    monkeypatch.setattr(cudnn, "_call", lambda q, k, v, dim, allowed: seen.append(q.shape[-1]) or q)
    mask = Layout(text=(4, 2, 2), grid=(2, 3)).draw_mask
    q, k = (jnp.zeros((1, n, 1, dim)) for n in (mask.num_queries, mask.num_keys))
    cudnn.attend_split(q, k, k, mask, jnp.ones((1, mask.num_keys), bool))
    assert set(seen) == {cudnn.split_head_dim(dim)}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a CPU's choice")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tokens", [8, 256])
def test_on_a_cpu_the_program_is_that_of_xla(dtype, tokens):
    mask = Layout(text=(4, 3, 2), grid=(2, tokens // 2)).full_mask

    def program(name):
        run = jax.jit(lambda *x: attend(*x[:3], mask, x[3], implementation=name))
        q = jax.ShapeDtypeStruct((2, mask.num_queries, 2, 8), dtype)
        valid = jax.ShapeDtypeStruct((2, mask.num_keys), bool)
        return run.lower(q, q, q, valid).as_text()

    assert program("auto") == program("xla")


def test_every_preset_chooses_attention_and_remat_by_the_device():
    for name in PRESETS:
        assert (preset(name).attention, preset(name).remat) == ("auto", "auto")


def test_a_model_trained_elsewhere_is_used_with_what_this_device_has():
    assert auto.for_device("splash", H100) == "auto"
    assert auto.for_device("cudnn_split", Device("cpu", "cpu")) == "auto"
    assert auto.for_device("cudnn", H100) == "cudnn"
    for name in ("xla", "reference", "auto", "of_an_extension"):
        assert auto.for_device(name, TPU) == name


def test_every_choice_is_an_implementation():
    assert {name: IMPLEMENTATIONS[name] for name in auto._FUNCTIONS} == auto._FUNCTIONS
    assert set(auto._PLATFORMS) < set(auto._FUNCTIONS)
