"""Model FLOPs: the operations that the method requires.

Not counted: rematerialisation, masked-out attention pairs, padding, and the outputs of the last
layer for condition tokens, of which only keys and values are used.  A multiply-add is two FLOPs.
"""

from ditfuse_jax.model.adjustments import Adjustments
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.conv_stem import stem_multiplications
from ditfuse_jax.model.heads import HEADS


def forward_flops(
    config: ModelConfig, *, num_text: float, num_images: int, patches: int, draws: int = 1
) -> float:
    """Returns the FLOPs of one forward pass for one example.

    Args:
      config: the model.
      num_text: text tokens without padding.
      num_images: condition images.
      patches: tokens per image and per target.
      draws: targets that share the condition.
    """
    condition = num_text + num_images * patches
    return condition_flops(config, num_text, num_images, patches) + draws * draw_flops(
        config, condition, patches
    )


def condition_flops(config: ModelConfig, num_text: float, num_images: int, patches: int) -> float:
    """Returns the FLOPs of computing a condition's keys and values; see `forward_flops`."""
    width, dim = config.hidden_size, config.head_dim
    condition = num_text + num_images * patches
    key_values = 2 * width * 2 * config.num_kv_heads * dim
    embed = num_images * patches * _patch_flops(config)
    if config.source_skip:
        embed *= 2  # once for the image's own tokens, once for the target's
    if config.conv_stem:
        embed += 2 * patches * (num_images * stem_multiplications(config) + width**2)
    if config.pooled_prompt:
        embed += 2 * width * (num_text * (width + config.num_heads) + width)
    full_layers = config.num_layers - 1
    linear = condition * (full_layers * _layer_flops(config) + key_values)
    return embed + linear + full_layers * 4 * width * condition_pairs(num_text, num_images, patches)


def draw_flops(config: ModelConfig, condition: float, patches: int) -> float:
    """Returns the FLOPs of one target with `condition` cached tokens: one step of the sampler.

    The per-pixel layers of the `bands` head are left out; they are a few percent of a small model.
    """
    width = config.hidden_size
    tokens = 1 + patches
    pairs = patches * (condition + tokens) + condition + 1
    outputs = HEADS.find(config.head).outputs_per_token(config)
    if config.adjustments:
        outputs += Adjustments.outputs_per_token(config)
    head = patches * 2 * width * outputs + 2 * width * 2 * width
    embed = patches * _patch_flops(config)
    time = 2 * (2 * 256 * width + 2 * width * width)
    layers = config.num_layers * (tokens * _layer_flops(config) + 4 * width * pairs)
    return embed + time + layers + head


def training_flops(
    config: ModelConfig, *, num_text: float, num_images: int, patches: int, draws: int = 1
) -> float:
    """Returns the FLOPs of forward and backward for one example if all weights are trained.

    That is three times the forward pass; see `forward_flops` for the arguments.
    """
    return 3 * forward_flops(
        config, num_text=num_text, num_images=num_images, patches=patches, draws=draws
    )


def _layer_flops(config: ModelConfig) -> float:
    """Returns the FLOPs of the matrix products of one layer for one token."""
    width, dim = config.hidden_size, config.head_dim
    qkv = width * (config.num_heads + 2 * config.num_kv_heads) * dim
    return 2 * (qkv + width * width + 3 * width * config.intermediate_size)


def _patch_flops(config: ModelConfig) -> float:
    return 2 * config.patch_size**2 * config.channels * config.hidden_size


def condition_pairs(num_text: float, num_images: int, patches: int) -> float:
    """Returns the attention pairs of a condition: causal, plus the upper triangle of each image.

    The order of text and images does not change the causal count.
    """
    total = num_text + num_images * patches
    return total * (total + 1) / 2 + num_images * patches * (patches - 1) / 2
