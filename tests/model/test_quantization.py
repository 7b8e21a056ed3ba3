"""Kernels in 8 and 4 bits, alone and inside models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.condition import KeyValues
from ditfuse_jax.model.layers import Linear
from ditfuse_jax.model.lora import LoRAConfig, combine_trees, split_lora
from ditfuse_jax.model.network import Network, frozen_dtypes, make_graph
from ditfuse_jax.model.quantization import (
    QUANTIZATIONS,
    QUANTIZED_LAYERS,
    MatrixShape,
    NormalFloat4,
    QuantizedMatrix,
    quantize_layers,
    quantized_shapes,
)
from ditfuse_jax.model.quantized_cache import QuantizedKeyValues

pytestmark = pytest.mark.usefixtures("exact_products")

NAMES = ("int8", "nf4")


@pytest.fixture
def matrices():
    """Of three layers with 192 inputs and 20 outputs."""
    return np.random.default_rng(0).standard_normal((3, 192, 20)).astype("f4")


def replaced(parameters, convert):
    """Returns parameters whose layers of `QUANTIZED_LAYERS` are converted."""
    parameters = jax.tree.map(lambda x: x, parameters)
    for (*parents, last), shape in QUANTIZED_LAYERS.items():
        owner = parameters
        for name in parents:
            owner = owner[name]
        owner[last] = owner[last] | convert(owner[last].pop, shape)
    return parameters


def quantized(parameters, name):
    return replaced(
        parameters,
        lambda pop, shape: quantize_layers(jnp.asarray(pop("kernel")), name, shape)._asdict(),
    )


def dequantized(parameters, name):
    """Returns unquantised parameters with the kernels that the quantised ones stand for."""

    def there_and_back(pop, shape):
        kernels = jnp.asarray(pop("kernel"))
        matrices = QUANTIZATIONS[name].dequantize(quantize_layers(kernels, name, shape))
        return {"kernel": jnp.moveaxis(matrices, -2, 1).reshape(kernels.shape)}

    return replaced(parameters, there_and_back)


def test_int8_is_off_by_at_most_half_a_step_of_its_output(matrices):
    codes, scales = QUANTIZATIONS["int8"].quantize(matrices)
    assert (codes.dtype, scales.dtype) == (jnp.int8, jnp.float32)
    np.testing.assert_allclose(scales, np.abs(matrices).max(1) / 127, rtol=1e-6)
    back = QUANTIZATIONS["int8"].dequantize(QuantizedMatrix(codes, scales))
    steps = np.abs(np.asarray(back) - matrices) / np.asarray(scales)[:, None]
    assert steps.max() <= 0.5 + 1e-4
    assert steps.max() > 0.45


@pytest.mark.parametrize(("inputs", "block"), [(192, 64), (96, 48), (160, 40), (6, 6)])
def test_nf4_takes_the_nearest_of_its_sixteen_values_in_blocks_of_one_scale(inputs, block):
    matrices = np.random.default_rng(0).standard_normal((3, inputs, 20)).astype("f4")
    scheme = NormalFloat4()
    stored = scheme.quantize(matrices)
    assert stored.codes.shape == (3, inputs // block, block // 2, 20)
    values = np.asarray(scheme.VALUES, "f4")
    blocks = matrices.reshape(3, -1, block, 20)
    scales = jnp.asarray(np.abs(blocks).max(2, keepdims=True), jnp.bfloat16).astype("f4")
    distances = np.abs(blocks[..., None] / np.asarray(scales)[..., None] - values)
    expected = (values[distances.argmin(-1)] * scales).reshape(matrices.shape)
    np.testing.assert_allclose(scheme.dequantize(stored), expected, rtol=1e-6)


def test_nf4_of_normal_weights_has_the_error_of_its_values():
    scheme = QUANTIZATIONS["nf4"]
    matrix = np.random.default_rng(1).standard_normal((1024, 256)).astype("f4")
    back = np.asarray(scheme.dequantize(scheme.quantize(matrix)))
    # Of a normal distribution in blocks of 64; int4 with the same blocks has about 0.11.
    assert 0.08 < np.sqrt(np.mean((back - matrix) ** 2)) < 0.10


@pytest.mark.parametrize("name", NAMES)
def test_zeros_stay_zeros(name):
    zeros = jnp.zeros((2, 64, 3))
    scheme = QUANTIZATIONS[name]
    np.testing.assert_array_equal(scheme.dequantize(scheme.quantize(zeros)), zeros)


@pytest.mark.parametrize(("name", "bytes_per_weight"), [("int8", 1 + 4 / 3072), ("nf4", 17 / 32)])
def test_a_weight_takes_this_many_bytes(name, bytes_per_weight):
    kernels = jax.ShapeDtypeStruct((32, 3072, 2, 8192), jnp.bfloat16)
    parts = quantized_shapes(kernels, name, MatrixShape(groups=1))
    stored = sum(x.size * x.dtype.itemsize for x in parts)
    assert stored / kernels.size == pytest.approx(bytes_per_weight)


def test_nf4_refuses_an_odd_number_of_inputs():
    with pytest.raises(UserError, match="63 inputs have no even divisor up to 64; use int8"):
        QUANTIZATIONS["nf4"].quantize(jnp.zeros((63, 4)))


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="int8, nf4"):
        quantize_layers(jnp.zeros((1, 64, 4)), "int3", MatrixShape())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_multiplying_is_multiplying_by_the_dequantised_matrix(matrices, name, dtype):
    scheme = QUANTIZATIONS[name]
    stored = scheme.quantize(jnp.asarray(matrices))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((7, 192)), dtype)
    out = scheme.multiply(x, stored)  # the layers are groups here
    assert out.dtype == x.dtype
    exact = np.einsum("ni,gio->ngo", np.asarray(x, "f4"), scheme.dequantize(stored))
    tolerance = {"float32": 1e-5, "bfloat16": 0.02}[dtype]
    assert np.abs(np.asarray(out, "f4") - exact).max() < tolerance * np.abs(exact).max()


@pytest.mark.parametrize("preset", ["LATENT", "PIXEL"])
def test_all_linear_layers_of_the_transformer_s_layers_are_quantised_and_no_others(models, preset):
    _, state = make_graph(Network(getattr(models, preset), quantize="nf4"))
    flat = dict(nnx.to_flat_state(state))
    stored = {path[:-1] for path in flat if path[-1] == "codes"}
    model = nnx.merge(*models.graph(getattr(models, preset)))
    linears = {
        path: MatrixShape(module.num_inputs, groups=int(path[-1] == "gate_up_proj"))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, Linear) and path[:2] == ("transformer", "layers")
    }
    assert linears == dict(QUANTIZED_LAYERS)
    assert stored == set(linears)
    assert not [path for path in flat if path[:-1] in stored and path[-1] == "kernel"]


@pytest.mark.parametrize("name", NAMES)
def test_codes_and_scales_keep_their_types_in_a_frozen_model(models, name):
    config = dataclasses.replace(models.LATENT, dtype="bfloat16")
    _, state = make_graph(Network(config, quantize=name))
    frozen = frozen_dtypes(config, nnx.to_pure_dict(state))
    layer = frozen["transformer"]["layers"]["mlp"]["down_proj"]
    types = {"int8": ("int8", "float32"), "nf4": ("uint8", "bfloat16")}[name]
    assert (layer["codes"].dtype, layer["scales"].dtype) == types
    assert frozen["x_embedder"]["kernel"].dtype == "bfloat16"


class Model:
    """A tiny quantised model with adapters, and the same with dequantised kernels."""

    def __init__(self, models, preset, name, unroll=False, remat="none"):
        config = dataclasses.replace(getattr(models, preset), unroll=unroll, remat=remat)
        lora = LoRAConfig(3, 3.0, ("all-linear",))
        self.graph, _ = make_graph(Network(config, lora, name))
        self.plain, state = make_graph(Network(config, lora))
        self.base = quantized(models.parameters(config), name)
        self.dequantized = dequantized(models.parameters(config), name)
        keys = iter(jax.random.split(jax.random.key(2), 100))
        shapes, _ = split_lora(nnx.to_pure_dict(state))
        self.factors = jax.tree.map(lambda x: 0.1 * jax.random.normal(next(keys), x.shape), shapes)
        self.condition = models.condition(config, batch=2)
        self.noisy, self.t = models.targets(config, batch=2)
        self.jit = models.jit

    def velocity_and_gradients(self, graph, base):
        def objective(factors):
            model = nnx.merge(graph, combine_trees(base, factors))
            velocity = model(self.condition, self.noisy, self.t)
            return jnp.mean(jnp.square(velocity)), velocity

        (_, velocity), gradients = self.jit(jax.value_and_grad(objective, has_aux=True))(
            self.factors
        )
        return velocity, gradients


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "preset", "unroll", "remat"),
    [
        ("int8", "LATENT", True, "projections"),
        ("nf4", "LATENT", False, "none"),
        ("nf4", "PIXEL", False, "full"),
    ],
)
def test_a_quantised_model_and_its_adapters_gradients_are_those_of_the_dequantised_one(
    models, name, preset, unroll, remat
):
    model = Model(models, preset, name, unroll, remat)
    velocity, gradients = model.velocity_and_gradients(model.graph, model.base)
    expected, expected_gradients = model.velocity_and_gradients(model.plain, model.dequantized)
    assert np.abs(velocity - expected).max() < 1e-4 * np.abs(expected).max()
    for ours, theirs in zip(*map(jax.tree.leaves, (gradients, expected_gradients)), strict=True):
        assert np.abs(theirs).max() > 0
        assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


@pytest.mark.medium
@pytest.mark.parametrize(("name", "tolerance"), [("int8", 0.02)])
def test_encode_and_denoise_give_the_velocity_of_the_whole_sequence(models, name, tolerance):
    """Up to the 8 bits of the condition's keys and values."""
    config = models.LATENT
    graph, _ = make_graph(Network(config, quantize=name))
    parameters = quantized(models.parameters(config), name)
    condition = models.condition(config, batch=2)
    noisy, t = models.targets(config, batch=2)

    @models.jit
    def run(parameters):
        model = nnx.merge(graph, parameters)
        cached = model.denoise(model.encode(condition), condition, noisy[:, 0], t[:, 0])
        return model(condition, noisy, t)[:, 0], cached

    whole, cached = run(parameters)
    error = np.abs(whole - cached).max() / np.abs(whole).max()
    assert 1e-5 < error < tolerance


def test_keys_and_values_in_8_bits_are_off_by_at_most_half_a_step():
    random = np.random.default_rng(0)
    pieces = KeyValues(*(random.standard_normal((2, 3, 5, 4, 8)).astype("f4") for _ in range(2)))
    stored = QuantizedKeyValues.of(pieces)
    assert stored.keys.shape == (2, 3, 5, 32)
    assert stored.keys.dtype == jnp.int8
    for plain, back in zip(pieces, stored.dequantize(jnp.float32), strict=True):
        steps = np.abs(back - plain) / (np.abs(plain).max(-1, keepdims=True) / 127)
        assert steps.max() < 1  # half a step, and the rounding of the scales


def temporary_bytes(compiled):
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


@pytest.mark.medium
def test_the_backward_pass_saves_no_dequantised_kernels(models):
    """With more layers the temporaries grow by less than the layers' dequantised kernels."""

    def temporaries(layers):
        config = dataclasses.replace(
            models.LATENT, num_layers=layers, hidden_size=128, intermediate_size=512, remat="none"
        )
        lora = LoRAConfig(2, 2.0, ("qkv_proj",))
        graph, state = make_graph(Network(config, lora, "nf4"))
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.to_pure_dict(state)
        )
        factors, base = split_lora(shapes)
        condition = models.condition(config, batch=1)
        noisy, t = models.targets(config, batch=1)

        def loss(factors, base):
            return jnp.mean(nnx.merge(graph, combine_trees(base, factors))(condition, noisy, t))

        compiled = jax.jit(jax.grad(loss)).lower(factors, base).compile()
        return temporary_bytes(compiled)

    kernels = 4 * (128 * 256 + 128 * 128 + 3 * 128 * 512)  # float32 bytes of a layer
    assert temporaries(6) - temporaries(2) < 4 * kernels


@pytest.mark.medium
@pytest.mark.parametrize(("unroll", "at_most"), [(False, 5), (True, 9)])
def test_no_layer_is_dequantised_ahead_of_the_loop_over_steps(models, unroll, at_most):
    """Temporaries in units of a dequantised layer, of which there are six.

    XLA's schedule for CPUs keeps all unrolled layers at once in a step, and would keep them twice.
    """
    layers, width, inner = 6, 128, 512
    config = dataclasses.replace(
        models.LATENT,
        num_layers=layers,
        hidden_size=width,
        intermediate_size=inner,
        unroll=unroll,
    )
    graph, state = make_graph(Network(config, quantize="nf4"))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.to_pure_dict(state))
    condition = models.condition(config, batch=1)
    noisy, t = models.targets(config, batch=1)

    def sample(parameters):
        model = nnx.merge(graph, parameters)
        encoded = model.encode(condition)

        def step(_, x):
            return x + 0.1 * model.denoise(encoded, condition, x, t[:, 0])

        return jax.lax.fori_loop(0, 4, step, jnp.asarray(noisy[:, 0]))

    compiled = jax.jit(sample).lower(shapes).compile()
    kernels = 4 * (width * 2 * width + width * width + 3 * width * inner)  # float32, of a layer
    assert temporary_bytes(compiled) < at_most * kernels


@pytest.mark.medium
@pytest.mark.processes
def test_a_model_whose_codes_are_sharded_over_fsdp_and_tensor_computes_the_same(on_eight_devices):
    for case, found in on_eight_devices("model/quantized_eight_devices.py").items():
        # Without `fsdp` the blocks of inputs are whole, but not the outputs of `o_proj`.
        assert found["parts"] == ([2, 8] if case == "nf4, not" else [4])
        assert max(found["errors"]) < 1e-5
