"""Linear layers with low-rank adapters; see `lora`."""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.layers import Linear
from ditfuse_jax.model.logical_axes import axes_of, parameter
from ditfuse_jax.model.lora import LoRAConfig, match_target_modules
from ditfuse_jax.model.rngs import Rngs


class LoRALinear(Linear):
    """A linear layer with a low-rank update: `x @ kernel + bias + scaling * (x @ A) @ B`.

    A is (*inputs, r), B is (r, *outputs), each with the kernel's leading dimension of layers.
    """

    def __init__(self, base: Linear, config: LoRAConfig, rngs: Rngs):
        self.kernel, self.bias = base.kernel, base.bias
        self.num_inputs, self.dtype = base.num_inputs, base.dtype
        axes: tuple[str | None, ...] = base.kernel.get_metadata("axes")
        stack = len(axes_of(base.kernel)) - len(axes)
        shape = base.kernel.shape
        inputs = shape[: stack + self.num_inputs]
        outputs = (*shape[:stack], config.rank, *shape[stack + self.num_inputs :])
        # PEFT's "gaussian" initialisation: the update is zero because B is.
        a = jax.random.normal(rngs.params(), (*inputs, config.rank)) / config.rank
        self.lora_a = _stacked(a, stack, *axes[: self.num_inputs], None)
        self.lora_b = _stacked(jnp.zeros(outputs), stack, None, *axes[self.num_inputs :])
        self.scaling = config.scaling

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., *inputs) to (..., *outputs)."""
        a, b = (factor[...].astype(self.dtype) for factor in (self.lora_a, self.lora_b))
        low = jnp.tensordot(x.astype(self.dtype), a, axes=self.num_inputs)
        return super().__call__(x) + self.scaling * jnp.tensordot(low, b, axes=1)


def _stacked(value: jax.Array, stack: int, *axes: str | None) -> nnx.Param:
    """Returns a parameter whose `axes` name the dimensions after the stack of layers."""
    return nnx.Param(value, axes=axes) if stack else parameter(value, *axes)


def add_lora(model: nnx.Module, config: LoRAConfig, *, rngs: Rngs) -> None:
    """Adds adapters to the model's linear layers, in place.

    Raises:
      UserError: a target matches no linear layer; the message lists them.
    """
    linears = {
        ".".join(map(str, path)): module
        for path, module in nnx.iter_modules(model)
        if isinstance(module, Linear)
    }
    for name in match_target_modules(linears, config.target_modules):
        *parents, last = name.split(".")
        owner = model
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, LoRALinear(linears[name], config, rngs))
