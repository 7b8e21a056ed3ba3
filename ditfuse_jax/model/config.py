"""The configuration of a model: everything that decides its parameters and its outputs."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

from ditfuse_jax.errors import UserError

PREDICTIONS = ("velocity", "clean")
DTYPES = ("float32", "bfloat16")
# How a model is run: these fields change neither its parameters nor, beyond rounding, its outputs.
RUNTIME_FIELDS = ("dtype", "attention", "remat", "unroll", "text_slots")

_AT_LEAST_ONE = (
    *("hidden_size", "num_layers", "num_heads", "num_kv_heads", "intermediate_size", "vocab_size"),
    *("channels", "latent_downsampling", "patch_size"),
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and options of one DiTFuse model.

    Attributes:
      preset: name of the preset it is based on; stored in checkpoints.
      hidden_size: D, the width of the transformer.
      num_layers: number of transformer layers.
      num_heads: query heads H; the head dimension is `hidden_size / num_heads`.
      num_kv_heads: key/value heads; fewer than `num_heads` is grouped-query attention.
      intermediate_size: width of the SwiGLU MLP.
      vocab_size: rows of the token embedding.
      text_slots: capacities in tokens of the (first, middle, last) text slot.
      max_images: largest number of condition images, 1..4.
      channels: channels of the images that the transformer processes: 4 for latents, 3 for pixels.
      latent_downsampling: pixels per latent side; 1 means that the model works on pixels.
      patch_size: side of a patch, in latents or pixels.
      prediction: what the head predicts: `velocity`, or `clean` for the clean image.
      head: a name in `heads.HEADS`: `linear` (OmniGen's), `blend` (per-pixel weights of the sources
        and a generated image) or `bands` (the same for every frequency band).
      source_skip: adds a linear embedding of the sources' patches to the target tokens.
      conv_stem: adds features of a convolutional stem over the sources to the target tokens.
      adjustments: changes the predicted image by operations whose strengths the tokens predict.
      pooled_prompt: adds the prompt, pooled to one vector, to all target tokens.
      pos_embed_max_size: side of the sin-cos table in patches; OmniGen's is 192.
      rms_norm_eps: epsilon of RMSNorm.
      rope_theta: base of the rotary frequencies.
      rope_short_factor: LongRoPE divisors, one per frequency; empty for plain RoPE.
      rope_long_factor: the divisors for more than `original_max_position` positions.
      original_max_position: longest sequence for `rope_short_factor`, in tokens.
      max_position: longest sequence of the model, in tokens.
      dtype: computation type, `float32` or `bfloat16`; parameters stay float32.
      attention: a name in `attention.IMPLEMENTATIONS`; `auto` takes the one for the device.
      remat: a name in `remat.REMAT_POLICIES`; with `auto` a training takes the policy with the
        least recomputation that fits the device.
      unroll: whether the layers are unrolled instead of scanned: compiles longer, runs faster; on a
        CPU `remat` then saves nothing.

    Raises:
      UserError: a value is invalid or contradicts another; the message names the key.
    """

    preset: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    vocab_size: int
    text_slots: tuple[int, int, int]
    max_images: int = 4
    channels: int = 4
    latent_downsampling: int = 8
    patch_size: int = 2
    prediction: str = "velocity"
    head: str = "linear"
    source_skip: bool = False
    conv_stem: bool = False
    pooled_prompt: bool = False
    adjustments: bool = False
    pos_embed_max_size: int = 192
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_short_factor: tuple[float, ...] = ()
    rope_long_factor: tuple[float, ...] = ()
    original_max_position: int = 4096
    max_position: int = 4096
    dtype: str = "float32"
    attention: str = "auto"
    remat: str = "auto"
    unroll: bool = False

    def __post_init__(self):
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            _require(
                isinstance(value, numbers.Integral),
                f"model.{name} must be a whole number, not {value!r}",
            )
            _require(value >= 1, f"model.{name} must be at least 1, not {value}")
        _require(
            self.hidden_size % (2 * self.num_heads) == 0,
            f"model.hidden_size {self.hidden_size} must be an even multiple of model.num_heads "
            f"{self.num_heads}",
        )
        _require(
            self.hidden_size % 4 == 0,
            f"model.hidden_size {self.hidden_size} must be a multiple of 4, for the sin-cos table",
        )
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"model.num_heads {self.num_heads} must be a multiple of model.num_kv_heads "
            f"{self.num_kv_heads}",
        )
        _require(
            1 <= self.max_images <= 4, f"model.max_images must be in 1..4, not {self.max_images}"
        )
        _require(
            len(self.text_slots) == 3 and min(self.text_slots) >= 1,
            "model.text_slots must be three capacities (first, middle, last) of at least 1 token, "
            f"not {self.text_slots}",
        )
        for name, choices in (("prediction", PREDICTIONS), ("dtype", DTYPES)):
            value = getattr(self, name)
            _require(
                value in choices, f"model.{name} {value!r} is unknown; choose from {_list(choices)}"
            )
        _require(
            self.latent_downsampling > 1 or self.channels == 3,
            f"model.channels must be 3 for a model on pixels (model.latent_downsampling=1), not "
            f"{self.channels}",
        )
        _require(
            not self.conv_stem or (self.latent_downsampling == 1 and self.patch_size % 4 == 0),
            "model.conv_stem needs a model on pixels (model.latent_downsampling=1) and a "
            f"model.patch_size that is a multiple of 4, not {self.patch_size}",
        )
        _require(
            not self.adjustments or (self.latent_downsampling == 1 and self.prediction == "clean"),
            "model.adjustments needs a model on pixels (model.latent_downsampling=1) and "
            "model.prediction='clean'",
        )
        self._check_rope()
        self._check_registered()

    def _check_rope(self) -> None:
        _require(
            bool(self.rope_short_factor) == bool(self.rope_long_factor),
            "model.rope_short_factor and model.rope_long_factor must be given both or not at all",
        )
        for name in ("rope_short_factor", "rope_long_factor"):
            factors = getattr(self, name)
            _require(
                len(factors) in (0, self.head_dim // 2),
                f"model.{name} has {len(factors)} values, the head dimension {self.head_dim} needs "
                f"{self.head_dim // 2}",
            )

    def _check_registered(self) -> None:
        # Imported here because these modules import this one.
        from ditfuse_jax.model.attention import IMPLEMENTATIONS
        from ditfuse_jax.model.heads import check_head
        from ditfuse_jax.model.remat import REMAT_POLICIES

        check_head(self)
        IMPLEMENTATIONS.find(self.attention)
        REMAT_POLICIES.find(self.remat)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def pixels_per_token(self) -> int:
        """Side in pixels of the square that one target token covers."""
        return self.patch_size * self.latent_downsampling

    @property
    def size_multiple(self) -> int:
        """Image sides in pixels must be multiples of this: of 16, as in OmniGen, and of a token."""
        return math.lcm(16, self.pixels_per_token)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Builds a config from plain values: a recipe's `model` section, a checkpoint's JSON.

        Raises:
          UserError: a key is unknown or missing, or a value is invalid.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise UserError(f"model: unknown key {unknown[0]!r}; known: {_list(fields)}")
        missing = [
            name
            for name, field in fields.items()
            if field.default is dataclasses.MISSING and name not in values
        ]
        if missing:
            raise UserError(f"model: missing key {missing[0]!r}")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _list(names) -> str:
    return ", ".join(names)
