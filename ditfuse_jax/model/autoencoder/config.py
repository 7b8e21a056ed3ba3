"""The shape of an autoencoder, as diffusers' `config.json` tells it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError

# What a config may say only in this way: everything else would compute something else.
_FIXED: Mapping[str, Any] = {
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
}
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Attributes:
    block_channels: channels of each resolution, from the image's down.
    layers_per_block: residual blocks per resolution; the decoder has one more.
    latent_channels: of the latents.
    norm_groups: of all group norms.
    scaling_factor: latents are `(sample - shift_factor) * scaling_factor`.
    shift_factor: see there.
    quant_conv: whether a 1x1 convolution follows the encoder.
    post_quant_conv: whether one precedes the decoder.
    """

    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    scaling_factor: float = 0.13025
    shift_factor: float = 0.0
    quant_conv: bool = True
    post_quant_conv: bool = True

    @property
    def downsampling(self) -> int:
        """Pixels per latent side."""
        return 2 ** (len(self.block_channels) - 1)


def read_autoencoder_config(path: Path) -> AutoencoderConfig:
    """Reads the `config.json` of a diffusers `AutoencoderKL`.

    Raises:
      UserError: it is missing, or says something that is not supported.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the autoencoder's {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise UserError(f"{path} is not the config of an AutoencoderKL")
    for name, wanted in _FIXED.items():
        if raw.get(name, wanted) != wanted:
            raise UserError(f"{path}: {name} {raw[name]!r} is not supported, only {wanted!r}")
    for name, wanted in _BLOCKS.items():
        if set(raw.get(name, [wanted])) != {wanted}:
            raise UserError(f"{path}: {name} {raw[name]} is not supported, only {wanted}")
    try:
        config = AutoencoderConfig(
            block_channels=tuple(raw["block_out_channels"]),
            layers_per_block=raw["layers_per_block"],
            latent_channels=raw["latent_channels"],
            norm_groups=raw["norm_num_groups"],
            scaling_factor=raw["scaling_factor"],
            shift_factor=raw.get("shift_factor") or 0.0,
            quant_conv=raw.get("use_quant_conv", True),
            post_quant_conv=raw.get("use_post_quant_conv", True),
        )
    except KeyError as error:
        raise UserError(f"{path} lacks {error.args[0]}") from error
    for channels in config.block_channels:
        if channels % config.norm_groups:
            raise UserError(
                f"{path}: {channels} channels do not divide into {config.norm_groups} groups"
            )
    return config
