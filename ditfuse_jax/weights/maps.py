"""Conversion between OmniGen's original tensors and the parameters of `DiTFuse`, both ways.

PyTorch stores a linear weight as (out, in).  Here it is (*inputs, *outputs), where each flat axis
is split into several, and the layers of the transformer are stacked.  A `Split` describes one flat
axis; weights, biases and the factors of adapters are all converted by it.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.weights.tensors import Tensors

Path = tuple[str, ...]
Index = tuple[slice, ...]

_LAYERS = ("transformer", "layers")


class Split(Protocol):
    """How a flat axis of the original is split and ordered."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the split axes."""
        ...

    def ours(self, x: np.ndarray) -> np.ndarray:
        """(flat, k) -> (*shape, k)."""
        ...

    def original(self, x: np.ndarray) -> np.ndarray:
        """(*shape, k) -> (flat, k)."""
        ...


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes that a flat axis consists of, and their order here.

    Attributes:
      sizes: in the original's order.
      order: permutation of the original's axes; empty for the same order.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...] = ()

    @property
    def _order(self) -> tuple[int, ...]:
        return self.order or tuple(range(len(self.sizes)))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sizes[axis] for axis in self._order)

    def ours(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(*self.sizes, -1).transpose(*self._order, len(self.sizes))

    def original(self, x: np.ndarray) -> np.ndarray:
        back = np.argsort((*self._order, len(self.sizes)))
        return x.transpose(back).reshape(math.prod(self.sizes), -1)


@dataclasses.dataclass(frozen=True)
class FusedHeads:
    """Rows of a fused projection of queries, keys and values.

    The original has all queries, then all keys, then all values.  Here they are grouped by
    key/value head: its queries, its key, its value.
    """

    heads: int
    kv_heads: int
    dim: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.kv_heads, self.heads // self.kv_heads + 2, self.dim

    def ours(self, x: np.ndarray) -> np.ndarray:
        q, k, v = np.split(x, [self.heads * self.dim, (self.heads + self.kv_heads) * self.dim])
        parts = [part.reshape(self.kv_heads, -1, self.dim, x.shape[1]) for part in (q, k, v)]
        return np.concatenate(parts, axis=1)

    def original(self, x: np.ndarray) -> np.ndarray:
        width = x.shape[-1]
        parts = (x[:, :-2], x[:, -2], x[:, -1])
        return np.concatenate([part.reshape(-1, width) for part in parts])


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """A linear map of the original, or a convolution that embeds patches.

    Attributes:
      path: of the module in `DiTFuse`.
      name: of the original's module; "{}" stands for the layer's number in a stack.
      inputs: the input axis; (channel, row, column) for a convolution.
      outputs: the output axis.
      bias: whether it has one.
      kernel: (row, column) sizes of a convolution; empty for a linear map.
    """

    path: Path
    name: str
    inputs: Axes
    outputs: Split
    bias: bool = True
    kernel: tuple[int, ...] = ()

    @property
    def stacked(self) -> bool:
        """Whether there is one map per layer."""
        return "{}" in self.name

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the original's weight: (out, in) or (out, channel, row, column)."""
        return math.prod(self.outputs.shape), *(
            self.inputs.sizes if self.kernel else (math.prod(self.inputs.sizes),)
        )

    def weight(self, x: np.ndarray) -> np.ndarray:
        """Converts a weight: (out, in) -> (*inputs, *outputs)."""
        rows = self.outputs.ours(x.reshape(len(x), -1))
        columns = rows.reshape(-1, rows.shape[-1]).T
        return self.inputs.ours(columns).reshape(*self.inputs.shape, *self.outputs.shape)

    def weight_back(self, x: np.ndarray) -> np.ndarray:
        """Inverse of `weight`: (*inputs, *outputs) -> (out, in)."""
        columns = self.inputs.original(x.reshape(*self.inputs.shape, -1))
        rows = self.outputs.original(columns.T.reshape(*self.outputs.shape, -1))
        return rows.reshape(self.weight_shape)

    def factor_a(self, x: np.ndarray) -> np.ndarray:
        """Converts an adapter's A: (r, in) -> (*inputs, r)."""
        return self.inputs.ours(x.reshape(len(x), -1).T)

    def factor_a_back(self, x: np.ndarray) -> np.ndarray:
        """Inverse of `factor_a`, in PEFT's shape."""
        return self.inputs.original(x).T.reshape(x.shape[-1], *self.weight_shape[1:])

    def factor_b(self, x: np.ndarray) -> np.ndarray:
        """Converts an adapter's B: (out, r) -> (r, *outputs)."""
        return np.moveaxis(self.outputs.ours(x.reshape(len(x), -1)), -1, 0)

    def factor_b_back(self, x: np.ndarray) -> np.ndarray:
        """Inverse of `factor_b`, in PEFT's shape."""
        rows = self.outputs.original(np.moveaxis(x, 0, -1))
        return rows.reshape(*rows.shape, *(1 for _ in self.kernel))


@dataclasses.dataclass(frozen=True)
class OriginalTensor:
    """Name and shape of a tensor of the original."""

    name: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One parameter of `DiTFuse` and the original's tensors it consists of, one per stacked layer.

    Attributes:
      shape: of the parameter.
      tensors: of the original.
      stacked: whether the first axis is the layer.
      map: the linear map it belongs to; None for a vector or table, which has the same layout.
      bias: whether it is the map's bias.
    """

    shape: tuple[int, ...]
    tensors: tuple[OriginalTensor, ...]
    stacked: bool = False
    map: LinearMap | None = None
    bias: bool = False

    def to_ours(self, x: np.ndarray) -> np.ndarray:
        """Converts one tensor of the original; returns one layer of a stacked parameter."""
        if self.map is None:
            return x
        if self.bias:
            return self.map.outputs.ours(x[:, None])[..., 0]
        return self.map.weight(x)

    def to_original(self, x: np.ndarray) -> np.ndarray:
        """Converts one layer of a stacked parameter, or another parameter, to the original."""
        if self.map is None:
            return x
        if self.bias:
            return self.map.outputs.original(x[..., None])[:, 0]
        return self.map.weight_back(x)

    def read(
        self, tensors: Tensors | Mapping[str, np.ndarray], index: Index | None = None
    ) -> np.ndarray:
        """Reads the parameter or a part of it; only the layers of that part are read.

        Args:
          tensors: the original's, by name.
          index: one slice per axis of the parameter, as in `jax.make_array_from_callback`.
        """
        index = index or (slice(None),) * len(self.shape)
        if not self.stacked:
            return np.ascontiguousarray(self.to_ours(_read(tensors, self.tensors[0].name))[index])
        numbers = range(self.shape[0])[index[0]]
        inner = [range(n)[part] for n, part in zip(self.shape[1:], index[1:], strict=True)]
        shape = (len(numbers), *(len(part) for part in inner))
        out: np.ndarray | None = None
        for place, number in enumerate(numbers):
            layer = _read(tensors, self.tensors[number].name)
            if out is None:
                out = aligned_empty(shape, layer.dtype)
            out[place] = self.to_ours(layer)[index[1:]]
        assert out is not None
        return out


def linear_maps(config: ModelConfig) -> tuple[LinearMap, ...]:
    """Returns all linear maps of OmniGen's transformer."""
    width, patch, channels = config.hidden_size, config.patch_size, config.channels
    heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
    inner = config.intermediate_size
    layer = "llm.layers.{}."

    def front(name: str) -> LinearMap:
        cut = Axes((channels, patch, patch), (1, 2, 0))
        return LinearMap((name,), f"{name}.proj", cut, Axes((width,)), kernel=(patch, patch))

    def time(name: str, place: str, number: int, inputs: int) -> LinearMap:
        return LinearMap((name, place), f"{name}.mlp.{number}", Axes((inputs,)), Axes((width,)))

    def inside(block: str, name: str, inputs: Axes, outputs: Split) -> LinearMap:
        return LinearMap(
            (*_LAYERS, block, name), f"{layer}{block}.{name}", inputs, outputs, bias=False
        )

    return (
        front("x_embedder"),
        front("input_x_embedder"),
        *(
            time(name, place, number, inputs)
            for name in ("time_token", "t_embedder")
            for place, number, inputs in (("inner", 0, 256), ("outer", 2, width))
        ),
        inside("self_attn", "qkv_proj", Axes((width,)), FusedHeads(heads, kv_heads, dim)),
        inside("self_attn", "o_proj", Axes((heads, dim)), Axes((width,))),
        inside("mlp", "gate_up_proj", Axes((width,)), Axes((2, inner))),
        inside("mlp", "down_proj", Axes((inner,)), Axes((width,))),
        LinearMap(
            ("head", "output", "modulation"),
            "final_layer.adaLN_modulation.1",
            Axes((width,)),
            Axes((2, width)),
        ),
        LinearMap(
            ("head", "output", "linear"),
            "final_layer.linear",
            Axes((width,)),
            Axes((patch, patch, channels)),
        ),
    )


def leaves(config: ModelConfig) -> dict[Path, Leaf]:
    """Returns path -> parameter of a `DiTFuse` in OmniGen's shape."""
    width, layers = config.hidden_size, config.num_layers
    table: dict[Path, Leaf] = {
        ("embed_tokens",): Leaf(
            (config.vocab_size, width),
            (OriginalTensor("llm.embed_tokens.weight", (config.vocab_size, width)),),
        ),
        ("transformer", "norm", "scale"): Leaf(
            (width,), (OriginalTensor("llm.norm.weight", (width,)),)
        ),
    }
    for norm in ("input_layernorm", "post_attention_layernorm"):
        names = [f"llm.layers.{number}.{norm}.weight" for number in range(layers)]
        table[(*_LAYERS, norm, "scale")] = Leaf(
            (layers, width), tuple(OriginalTensor(name, (width,)) for name in names), stacked=True
        )
    for linear in linear_maps(config):
        stack = range(layers) if linear.stacked else range(1)
        lead = (layers,) if linear.stacked else ()
        names = [linear.name.format(number) for number in stack]
        table[(*linear.path, "kernel")] = Leaf(
            (*lead, *linear.inputs.shape, *linear.outputs.shape),
            tuple(OriginalTensor(f"{name}.weight", linear.weight_shape) for name in names),
            stacked=linear.stacked,
            map=linear,
        )
        if linear.bias:
            table[(*linear.path, "bias")] = Leaf(
                linear.outputs.shape,
                (OriginalTensor(f"{linear.name}.bias", linear.weight_shape[:1]),),
                map=linear,
                bias=True,
            )
    return table


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocates memory aligned to 64 bytes, which JAX's CPU devices use without a copy."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _read(tensors: Tensors | Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return tensors.read(name) if isinstance(tensors, Tensors) else np.asarray(tensors[name])
