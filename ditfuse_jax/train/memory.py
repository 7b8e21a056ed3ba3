"""Memory of a training step on one device: its inputs, and what its layers save."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import Layout, ModelConfig
from ditfuse_jax.model.logical_axes import Axes
from ditfuse_jax.model.remat import REMAT_POLICIES
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import Frozen, TrainState
from ditfuse_jax.xla.memory import MemorySizes, device_bytes, readable

_TOKENS = ("batch", "sequence")
# The values that a layer may save for its backward pass, by their names in the model.  Attention's
# log-sum-exp and the padding of its output are not counted.
_AXES: Mapping[str, Axes] = {
    "block_input": (*_TOKENS, "activation"),
    "qkv": (*_TOKENS, "kv_heads", None, "head_dim"),
    "attention": (*_TOKENS, "heads", "head_dim"),
    "o_proj": (*_TOKENS, "activation"),
    "gate_up": (*_TOKENS, None, "mlp"),
}


def checkpoints(
    model: ModelConfig, batch: int, length: int
) -> dict[str, tuple[Axes, tuple[int, ...]]]:
    """Returns the values that one layer saves on the device under the model's remat policy.

    Args:
      model: the policy and sizes.
      batch: number of examples.
      length: tokens of the whole sequence.

    Returns:
      Name -> logical axes and shape.

    Raises:
      UserError: the policy saves everything, so XLA decides what is stored.
    """
    saved = REMAT_POLICIES.find(model.remat).saved
    if saved is None:
        raise UserError(f"model.remat={model.remat} saves all values of a layer, without names")
    group = model.num_heads // model.num_kv_heads + 2
    sizes = {
        "block_input": (model.hidden_size,),
        "qkv": (model.num_kv_heads, group, model.head_dim),
        "attention": (model.num_heads, model.head_dim),
        "o_proj": (model.hidden_size,),
        "gate_up": (2, model.intermediate_size),
    }
    return {name: (_AXES[name], (batch, length, *sizes[name])) for name in saved}


def checkpoint_bytes(model: ModelConfig, partitioner: Partitioner, batch: int, length: int) -> int:
    """Returns the bytes on one device of the values that all layers save.

    0 if the policy saves everything; see `checkpoints`.
    """
    if REMAT_POLICIES.find(model.remat).saved is None:
        return 0
    total = 0
    for axes, shape in checkpoints(model, batch, length).values():
        total += math.prod(partitioner.activation(axes, shape).shard_shape(shape))
    return total * jnp.dtype(model.dtype).itemsize * model.num_layers


def step_arguments(state: TrainState, frozen: Frozen, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the inputs of a step by what they are; they may be abstract."""
    return {
        "parameters": state.parameters,
        "moments": state.optimizer,
        "averaged parameters": state.ema,
        "frozen model": frozen.base,
        "teacher": frozen.teacher,
        "autoencoder": frozen.autoencoder,
        "batch": batch,
    }


def step_layout(recipe: Recipe, batch: Mapping[str, Any]) -> Layout:
    """Returns the layout of the sequence of each example of a batch."""
    first, middle, last = recipe.model.text_slots
    height, width = (side // recipe.model.pixels_per_token for side in batch["target"].shape[1:3])
    text = (first, *(middle,) * (batch["images"].shape[1] - 1), last)
    return Layout(text, (height, width), recipe.step.draws)


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Memory of a step on one device, in bytes.

    Attributes:
      recipe: of the run.
      partitioner: of the run.
      layout: of the sequence of one example.
      arguments: of its inputs, by what they are.
      gradients: of the gradients.
      saved: of the values that its layers save; 0 if XLA decides what is stored.
      sizes: the compiler's, once the step is compiled.
      buffers: the largest values in between, see `largest_buffers`.
    """

    recipe: Recipe
    partitioner: Partitioner
    layout: Layout
    arguments: Mapping[str, int]
    gradients: int
    saved: int
    sizes: MemorySizes | None = None
    buffers: Sequence[tuple[str, int]] = ()

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        partitioner: Partitioner,
        state: TrainState,
        frozen: Frozen,
        batch: Mapping[str, Any],
    ) -> "StepMemory":
        """Returns what is known before the step is compiled; all arrays may be abstract."""
        size = batch["target"].shape[0] // recipe.step.accumulation
        layout = step_layout(recipe, batch)
        return cls(
            recipe=recipe,
            partitioner=partitioner,
            layout=layout,
            arguments={
                name: device_bytes(tree)
                for name, tree in step_arguments(state, frozen, batch).items()
            },
            gradients=device_bytes(state.parameters),
            saved=checkpoint_bytes(recipe.model, partitioner, size, layout.length),
        )

    def activations(self, total: int | None = None) -> int:
        """Returns the bytes of everything between inputs and results except the gradients.

        Args:
          total: bytes that the step needs in all, if the compiler's sizes are not known.
        """
        temporaries = 0
        if self.sizes:
            temporaries = self.sizes.temporaries
        elif total:
            temporaries = total - sum(self.arguments.values())
        return max(self.saved, temporaries - self.gradients)

    @property
    def consumers(self) -> dict[str, int]:
        """The known parts of the memory, the largest first."""
        parts = {**self.arguments, "gradients": self.gradients, "layers' saved values": self.saved}
        return dict(sorted(parts.items(), key=lambda item: -item[1]))

    def table(self, title: str, limit: int | None = None) -> str:
        """Returns the compiler's sizes and the largest buffers as lines of text.

        Args:
          title: of the program.
          limit: bytes that the device has, if it says so.
        """
        sizes = self.sizes
        if sizes is None:
            return f"{title}: the compiler does not report its memory\n"
        of = f" of {readable(limit)}" if limit else ""
        parts = ", ".join(
            f"{name} {readable(size)}" for name, size in self.arguments.items() if size
        )
        rows = [
            (sizes.arguments, f"arguments: {parts}"),
            (sizes.outputs, f"outputs, {readable(sizes.reused)} of them in place of arguments"),
            (sizes.temporaries, "temporaries; the largest:"),
            *((size, f"  {name}") for name, size in self.buffers),
            *([(sizes.code, "program")] if sizes.code else []),
        ]
        lines = [f"memory of {title} on a device: {readable(sizes.total)}{of}"]
        lines += [f"{readable(size):>12}  {name}" for size, name in rows]
        return "\n".join(lines) + "\n"
