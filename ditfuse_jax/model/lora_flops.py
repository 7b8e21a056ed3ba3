"""Model FLOPs of training LoRA adapters: frozen weights need no gradient.

A step consists of the forward pass, the gradients of the activations, and three times the adapters'
forward pass.  Activations before the first adapted layer need no gradient.  As in `flops`, only
what the method requires is counted; the input gradients of the two small timestep MLPs are left
out.
"""

from ditfuse_jax.model.adjustments import Adjustments
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.conv_stem import stem_layers
from ditfuse_jax.model.flops import condition_pairs, forward_flops
from ditfuse_jax.model.heads import HEADS
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
    """Returns the FLOPs of forward and backward for one example if only adapters are trained.

    Args:
      config: the frozen model.
      lora: the adapters.
      num_text: text tokens without padding.
      num_images: condition images.
      patches: tokens per image and per target.
      draws: targets that share the condition.

    Raises:
      UserError: a target of the adapters does not exist.
    """
    linears = _LinearLayers(config, num_text, num_images, patches, draws)
    adapted = set(match_target_modules(linears.layers, lora.target_modules))
    forward = forward_flops(
        config, num_text=num_text, num_images=num_images, patches=patches, draws=draws
    )
    needs_gradient = _needs_gradient(adapted, linears)
    return (
        forward
        + _adapters(config, lora, linears, adapted, needs_gradient)
        + _input_gradients(config, linears, adapted, needs_gradient)
    )


def _needs_gradient(adapted: set[str], linears: "_LinearLayers") -> dict[str, bool]:
    """Returns, for each layer of the first block, whether its input needs a gradient.

    That is the case if anything before it is adapted.  The entry `after` is for the block's output.
    """
    before = bool(adapted & set(linears.embedders))
    needed = {}
    for name in (_QKV, "attention", _OUT, _GATE_UP, _DOWN, "after"):
        needed[name] = before
        before = before or name in adapted
    return needed


def _adapters(
    config: ModelConfig,
    lora: LoRAConfig,
    linears: "_LinearLayers",
    adapted: set[str],
    needs_gradient: dict[str, bool],
) -> float:
    """Forward and backward of the adapters themselves."""
    total = 0.0
    for name in adapted:
        inputs, outputs, tokens = linears.layers[name]
        total += 3 * 2 * lora.rank * tokens * (inputs + outputs)
        # No gradient of inputs that depend on no adapter: data, and the first block's input.
        if name in linears.of_data:
            total -= 2 * lora.rank * inputs * tokens
        elif not needs_gradient.get(name, True):
            total -= 2 * lora.rank * inputs * linears.tokens(name, 0)
    if _QKV in adapted:  # the last layer's queries of condition tokens are not used
        total -= 3 * 2 * lora.rank * linears.condition * config.num_heads * config.head_dim
    return total


def _input_gradients(
    config: ModelConfig,
    linears: "_LinearLayers",
    adapted: set[str],
    needs_gradient: dict[str, bool],
) -> float:
    """Gradients of the activations through frozen layers, down to the first adapted one."""
    total = 0.0
    if needs_gradient["after"]:
        inputs, outputs, tokens = linears.layers["head.output.linear"]
        total += 2 * inputs * outputs * tokens
        for layer in range(config.num_layers):
            for name in (_QKV, _OUT, _GATE_UP, _DOWN):
                if layer or needs_gradient[name]:
                    total += 2 * linears.layers[name][0] * linears.outputs(name, layer)
            if layer or needs_gradient["attention"]:
                total += 2 * 4 * config.hidden_size * linears.pairs(layer)
    if adapted & {"t_embedder.inner", "t_embedder.outer"}:
        inputs, outputs, tokens = linears.layers["head.output.modulation"]
        total += 2 * inputs * outputs * tokens
    return total


class _LinearLayers:
    """Sizes of the model's linear layers, and how often each is applied to one example.

    Attributes:
      layers: name -> inputs, outputs, applications.
      embedders: names of those before the transformer.
      of_data: names of those whose inputs depend on no parameter.
      condition: condition tokens.
      draws: tokens of all draws.
    """

    def __init__(
        self, config: ModelConfig, num_text: float, num_images: int, patches: int, draws: int
    ):
        self.config = config
        self.condition = num_text + num_images * patches
        self.draws = draws * (1 + patches)
        self._condition_pairs = condition_pairs(num_text, num_images, patches)
        self._draw_pairs = draws * (patches * (self.condition + 1 + patches) + self.condition + 1)
        width, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
        patch = config.patch_size**2 * config.channels
        num_layers, images = config.num_layers, num_images * patches
        inside = (num_layers - 1) * self.condition + num_layers * self.draws
        heads = (config.num_heads + 2 * config.num_kv_heads) * dim
        blocks: dict[str, tuple[int, int, float]] = {
            _QKV: (width, heads, num_layers * (self.condition + self.draws)),
            _OUT: (width, width, inside),
            _GATE_UP: (width, 2 * inner, inside),
            _DOWN: (inner, width, inside),
        }
        embedders: dict[str, tuple[int, int, float]] = {
            "time_token.inner": (256, width, draws),
            "time_token.outer": (width, width, draws),
            "x_embedder": (patch, width, draws * patches),
            "input_x_embedder": (patch, width, images),
        }
        if config.source_skip:
            embedders["source_embedder"] = (patch, width, images)
        if config.conv_stem:
            stem = stem_layers(config, num_images, patches)
            embedders |= {f"source_stem.{name}": sizes for name, sizes in stem.items()}
        if config.pooled_prompt:
            embedders |= {
                "prompt_pool.weigh": (width, config.num_heads, num_text),
                "prompt_pool.value": (width, width, num_text),
                "prompt_pool.out": (width, width, 1),
            }
        self.of_data = ("time_token.inner", *PATCH_EMBEDDERS, "source_stem.see", "t_embedder.inner")
        self.embedders = tuple(embedders)
        head, pixels = HEADS.find(config.head), draws * patches * config.patch_size**2
        outputs = head.outputs_per_token(config)
        adjustments: dict[str, tuple[int, int, float]] = {}
        if config.adjustments:
            size = Adjustments.outputs_per_token(config)
            adjustments = {
                "adjustments.output.modulation": (width, 2 * width, draws),
                "adjustments.output.linear": (width, size, draws * patches),
            }
        self.layers = {
            **blocks,
            **embedders,
            **adjustments,
            "t_embedder.inner": (256, width, draws),
            "t_embedder.outer": (width, width, draws),
            "head.output.modulation": (width, 2 * width, draws),
            "head.output.linear": (width, outputs, draws * patches),
            **{
                f"head.{name}": (inputs, outputs, pixels * (num_images if per_source else 1))
                for name, (inputs, outputs, per_source) in head.pixel_layers().items()
            },
        }

    def tokens(self, name: str, layer: int) -> float:
        """Returns the number of tokens to which one block's layer is applied."""
        last = layer == self.config.num_layers - 1
        return self.draws + (0 if last and name != _QKV else self.condition)

    def outputs(self, name: str, layer: int) -> float:
        """Returns the number of outputs of one block's layer that are used, over all tokens."""
        _, outputs, _ = self.layers[name]
        if layer < self.config.num_layers - 1:
            return outputs * (self.condition + self.draws)
        used = 2 * self.config.num_kv_heads * self.config.head_dim if name == _QKV else 0
        return used * self.condition + outputs * self.draws

    def pairs(self, layer: int) -> float:
        """Returns the attention pairs of one block."""
        last = layer == self.config.num_layers - 1
        return self._draw_pairs + (0 if last else self._condition_pairs)
