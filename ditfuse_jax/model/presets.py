"""Named model sizes.

Other modules add a preset, a function without arguments, with `PRESETS.register(name)`.
"""

from collections.abc import Callable

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.registry import Registry

# Rows of the bundled tokenizer's embedding, rounded up for sharding.
_VOCAB = 2048
_SLOTS = (64, 32, 160)


def _pixels(preset: str, width: int, layers: int, heads: int, **changes) -> ModelConfig:
    """Returns a model on pixels that predicts the clean image, for training from scratch."""
    values = {
        "num_kv_heads": heads,
        # 8/3 of the width, the usual SwiGLU ratio, rounded up to a multiple of 64.
        "intermediate_size": -(-width * 8 // (3 * 64)) * 64,
        "vocab_size": _VOCAB,
        "text_slots": _SLOTS,
        "channels": 3,
        "latent_downsampling": 1,
        "patch_size": 16,
        "prediction": "clean",
        "head": "blend",
        "source_skip": True,
    }
    return ModelConfig(
        preset=preset, hidden_size=width, num_layers=layers, num_heads=heads, **values | changes
    )


def nano() -> ModelConfig:
    """For tests and demos: trains in minutes on a laptop's CPU."""
    return _pixels("nano", width=192, layers=4, heads=4)


def small() -> ModelConfig:
    """For one GPU: trains in half an hour."""
    return _pixels("small", width=384, layers=12, heads=6, dtype="bfloat16")


def base() -> ModelConfig:
    """For a workstation or one host with accelerators."""
    return _pixels("base", width=768, layers=16, heads=12, dtype="bfloat16")


def large() -> ModelConfig:
    """For several hosts."""
    return _pixels("large", width=1536, layers=24, heads=16, dtype="bfloat16")


def omnigen() -> ModelConfig:
    """OmniGen-v1 (arXiv 2409.11340): 3.8 B parameters, latents, velocity; takes its weights.

    The LongRoPE factors are stored with the weights: `weights.omnigen.config_from_phi3` reads them.
    """
    return ModelConfig(
        preset="omnigen",
        hidden_size=3072,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        intermediate_size=8192,
        vocab_size=32064,
        text_slots=(64, 16, 128),
        max_position=131072,
        dtype="bfloat16",
    )


PRESETS: Registry[Callable[[], ModelConfig]] = Registry(
    "preset", {"nano": nano, "small": small, "base": base, "large": large, "omnigen": omnigen}
)


def preset(name: str) -> ModelConfig:
    """Returns the named preset.

    Raises:
      UserError: there is no such preset, or its `ModelConfig` has the name of another.
    """
    config = PRESETS.find(name)()
    if config.preset != name:
        raise UserError(
            f"preset {name!r} returns a ModelConfig with preset={config.preset!r}: "
            f"give it preset={name!r}"
        )
    return config
