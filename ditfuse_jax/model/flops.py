"""Model FLOPs, counted honestly: what the method needs and nothing else.

Not counted: rematerialisation, masked-out attention pairs, padding, and the parts of the last layer
that nobody reads for condition tokens (they only give keys and values there).  A multiply-add is
two.
"""

from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.conv_stem import stem_values
from ditfuse_jax.model.heads.bands import EXTRA, cells_per_side


def forward_flops(
    config: ModelConfig, *, num_text: float, num_images: int, patches: int, draws: int = 1
) -> float:
    """FLOPs of one forward pass for one example.

    Args:
      num_text: real text tokens.
      num_images: condition images.
      patches: tokens per image and target.
      draws: targets sharing the condition.
    """
    condition = num_text + num_images * patches
    return condition_flops(config, num_text, num_images, patches) + draws * draw_flops(
        config, condition, patches
    )


def condition_flops(config: ModelConfig, num_text: float, num_images: int, patches: int) -> float:
    """FLOPs to turn a condition into keys and values."""
    width, dim = config.hidden_size, config.head_dim
    condition = num_text + num_images * patches
    key_values = 2 * width * 2 * config.num_kv_heads * dim
    embed = num_images * patches * _patch_flops(config)
    if config.source_skip:
        embed *= 2  # once for the image's own tokens, once for the target's
    if config.conv_stem:
        embed += 2 * patches * (num_images * stem_values(config) + width**2)
    if config.pooled_prompt:
        embed += 2 * width * (num_text * (width + config.num_heads) + width)
    full_layers = config.num_layers - 1
    linear = condition * (full_layers * _layer_flops(config) + key_values)
    return embed + linear + full_layers * 4 * width * condition_pairs(num_text, num_images, patches)


def draw_flops(config: ModelConfig, condition: float, patches: int) -> float:
    """FLOPs of one target against `condition` cached tokens: one step of the sampler."""
    width = config.hidden_size
    tokens = 1 + patches
    pairs = patches * (condition + tokens) + condition + 1
    head = patches * 2 * width * head_values(config) + 2 * width * 2 * width
    embed = patches * _patch_flops(config)
    time = 2 * (2 * 256 * width + 2 * width * width)
    layers = config.num_layers * (tokens * _layer_flops(config) + 4 * width * pairs)
    return embed + time + layers + head


def training_flops(
    config: ModelConfig, *, num_text: float, num_images: int, patches: int, draws: int = 1
) -> float:
    """FLOPs of forward and backward for one example when all weights train: three forwards."""
    return 3 * forward_flops(
        config, num_text=num_text, num_images=num_images, patches=patches, draws=draws
    )


def head_values(config: ModelConfig) -> int:
    """Values that the head takes from each token of the target.

    What `bands` does per pixel and source is left out: some hundredths of a small model's work.
    """
    if config.head == "bands":
        return cells_per_side(config) ** 2 * (config.channels + EXTRA)
    weights = config.max_images + 1 if config.head == "blend" else 0
    return config.patch_size**2 * (config.channels + weights)


def _layer_flops(config: ModelConfig) -> float:
    """Matrix products of one layer for one token."""
    width, dim = config.hidden_size, config.head_dim
    qkv = width * (config.num_heads + 2 * config.num_kv_heads) * dim
    return 2 * (qkv + width * width + 3 * width * config.intermediate_size)


def _patch_flops(config: ModelConfig) -> float:
    return 2 * config.patch_size**2 * config.channels * config.hidden_size


def condition_pairs(num_text: float, num_images: int, patches: int) -> float:
    """Seen pairs: causal over everything, plus the upper triangle inside each image.

    Where the text stands between the images does not change the causal count.
    """
    total = num_text + num_images * patches
    return total * (total + 1) / 2 + num_images * patches * (patches - 1) / 2
