"""Model FLOPs of training low-rank adapters: frozen weights need no gradient of their own.

A step costs the forward pass, the gradients of the activations, and the adapters three times.
Activations before the first adapted map need no gradient either.  As in `flops`, nothing is counted
that the method does not need; the two small time embedders' input gradients are left out.
"""

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.conv_stem import CELL, WIDTH
from ditfuse_jax.model.flops import condition_pairs, forward_flops, head_values
from ditfuse_jax.model.heads import bands
from ditfuse_jax.model.lora import PATCH_EMBEDDERS, LoRAConfig, match_target_modules

_LAYER = "transformer.layers"
_QKV, _OUT = f"{_LAYER}.self_attn.qkv_proj", f"{_LAYER}.self_attn.o_proj"
_GATE_UP, _DOWN = f"{_LAYER}.mlp.gate_up_proj", f"{_LAYER}.mlp.down_proj"


def lora_training_flops(
    config: ModelConfig,
    lora: LoRAConfig,
    *,
    num_text: float,
    num_images: int,
    patches: int,
    draws: int = 1,
) -> float:
    """FLOPs of forward and backward for one example when only adapters train.

    Args:
      config: the frozen model.
      lora: the adapters.
      num_text: real text tokens.
      num_images: condition images.
      patches: tokens per image and target.
      draws: targets sharing the condition.
    """
    sizes = _Sizes(config, num_text, num_images, patches, draws)
    adapted = set(match_target_modules(sizes.modules, lora.target_modules))
    forward = forward_flops(
        config, num_text=num_text, num_images=num_images, patches=patches, draws=draws
    )
    reached = _reached(adapted, sizes)
    return (
        forward
        + _adapters(config, lora, sizes, adapted, reached)
        + _input_gradients(config, sizes, adapted, reached)
    )


def _reached(adapted: set[str], sizes: "_Sizes") -> dict[str, bool]:
    """Whether anything trains before each map of the first layer; `after` it: in it or before."""
    before = bool(adapted & set(sizes.embedders))
    reached = {}
    for name in (_QKV, "attention", _OUT, _GATE_UP, _DOWN, "after"):
        reached[name] = before
        before = before or name in adapted
    return reached


def _adapters(
    config: ModelConfig,
    lora: LoRAConfig,
    sizes: "_Sizes",
    adapted: set[str],
    reached: dict[str, bool],
) -> float:
    """Forward and backward of the adapters themselves."""
    total = 0.0
    for name in adapted:
        inputs, outputs, tokens = sizes.modules[name]
        total += 3 * 2 * lora.rank * tokens * (inputs + outputs)
        # No gradient for what nothing that trains has touched: data, and the first layer's input.
        if name in sizes.of_data:
            total -= 2 * lora.rank * inputs * tokens
        elif not reached.get(name, True):
            total -= 2 * lora.rank * inputs * sizes.tokens(name, 0)
    if _QKV in adapted:  # queries of the condition in the last layer are read by nobody
        total -= 3 * 2 * lora.rank * sizes.condition * config.num_heads * config.head_dim
    return total


def _input_gradients(
    config: ModelConfig, sizes: "_Sizes", adapted: set[str], reached: dict[str, bool]
) -> float:
    """Gradients of the activations through frozen maps, down to the first adapted one."""
    total = 0.0
    if reached["after"]:
        inputs, outputs, tokens = sizes.modules["head.output.linear"]
        total += 2 * inputs * outputs * tokens
        for layer in range(config.num_layers):
            for name in (_QKV, _OUT, _GATE_UP, _DOWN):
                if layer or reached[name]:
                    total += 2 * sizes.modules[name][0] * sizes.products(name, layer)
            if layer or reached["attention"]:
                total += 2 * 4 * config.hidden_size * sizes.pairs(layer)
    if adapted & {"t_embedder.inner", "t_embedder.outer"}:
        inputs, outputs, tokens = sizes.modules["head.output.modulation"]
        total += 2 * inputs * outputs * tokens
    return total


class _Sizes:
    """How often each linear map is applied to one example."""

    def __init__(
        self, config: ModelConfig, num_text: float, num_images: int, patches: int, draws: int
    ):
        self.config = config
        self.condition = num_text + num_images * patches
        self.draws = draws * (1 + patches)
        self._pairs_of_condition = condition_pairs(num_text, num_images, patches)
        self._pairs_of_draws = draws * (
            patches * (self.condition + 1 + patches) + self.condition + 1
        )
        width, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
        patch = config.patch_size**2 * config.channels
        layers, images = config.num_layers, num_images * patches
        inside = (layers - 1) * self.condition + layers * self.draws
        heads = (config.num_heads + 2 * config.num_kv_heads) * dim
        # name -> inputs, outputs, applications
        self.modules: dict[str, tuple[int, int, float]] = {
            _QKV: (width, heads, layers * (self.condition + self.draws)),
            _OUT: (width, width, inside),
            _GATE_UP: (width, 2 * inner, inside),
            _DOWN: (inner, width, inside),
        }
        self.layer_modules = tuple(self.modules)
        self.modules |= {
            "time_token.inner": (256, width, draws),
            "time_token.outer": (width, width, draws),
            "x_embedder": (patch, width, draws * patches),
            "input_x_embedder": (patch, width, images),
        }
        if config.source_skip:
            self.modules["source_embedder"] = (patch, width, images)
        if config.conv_stem:
            cells = (config.patch_size // CELL) ** 2
            self.modules |= {
                "source_stem.see": (CELL * CELL * config.channels, WIDTH, images * cells),
                "source_stem.look_around": (9 * WIDTH, WIDTH, images * cells),
                "source_stem.merge": (cells * WIDTH, width, images),
                "source_stem.out": (width, width, patches),
            }
        if config.pooled_prompt:
            self.modules |= {
                "prompt_pool.weigh": (width, config.num_heads, num_text),
                "prompt_pool.value": (width, width, num_text),
                "prompt_pool.out": (width, width, 1),
            }
        self.of_data = ("time_token.inner", *PATCH_EMBEDDERS, "source_stem.see", "t_embedder.inner")
        self.embedders = tuple(name for name in self.modules if name not in self.layer_modules)
        self.modules |= {
            "t_embedder.inner": (256, width, draws),
            "t_embedder.outer": (width, width, draws),
            "head.output.modulation": (width, 2 * width, draws),
            "head.output.linear": (width, head_values(config), draws * patches),
        }
        if config.head == "bands":
            pixels = draws * patches * config.patch_size**2
            # Once for each source, but for what the tokens say to all of them.
            self.modules |= {
                f"head.{name}": (*sizes, pixels * (1 if name == "of_tokens" else num_images))
                for name, sizes in bands.MAPS.items()
            }

    def tokens(self, name: str, layer: int) -> float:
        """Tokens that a map is applied to in one layer."""
        last = layer == self.config.num_layers - 1
        return self.draws + (0 if last and name != _QKV else self.condition)

    def products(self, name: str, layer: int) -> float:
        """Outputs of a map in one layer, over all tokens that need them."""
        _, outputs, _ = self.modules[name]
        if layer < self.config.num_layers - 1:
            return outputs * (self.condition + self.draws)
        read = 2 * self.config.num_kv_heads * self.config.head_dim if name == _QKV else 0
        return read * self.condition + outputs * self.draws

    def pairs(self, layer: int) -> float:
        """Attention pairs of one layer."""
        last = layer == self.config.num_layers - 1
        return self._pairs_of_draws + (0 if last else self._pairs_of_condition)
