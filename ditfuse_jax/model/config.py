"""The shape of a model: everything that decides its parameters and its numbers."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ditfuse_jax.errors import UserError

PREDICTIONS = ("velocity", "clean")
HEADS = ("linear", "blend", "bands")
DTYPES = ("float32", "bfloat16")
# How a model runs, not what it is: its weights serve whatever these say.
RUNTIME_FIELDS = ("dtype", "attention", "remat", "unroll", "text_slots")

_AT_LEAST_ONE = (
    *("hidden_size", "num_layers", "num_heads", "num_kv_heads", "intermediate_size", "vocab_size"),
    *("channels", "latent_downsampling", "patch_size"),
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of one DiTFuse model.

    Attributes:
      preset: name of the preset it started from; a checkpoint remembers it.
      hidden_size: D, the transformer's width.
      num_layers: depth.
      num_heads: query heads H; `head_dim` is `hidden_size / num_heads`.
      num_kv_heads: key/value heads; fewer than `num_heads` is grouped-query attention.
      intermediate_size: width of the SwiGLU MLP.
      vocab_size: rows of the token embedding.
      text_slots: capacities in tokens of the (first, middle, last) text slot.
      max_images: the most condition images the model takes, 1..4.
      channels: channels of an image as the transformer sees it: 4 for latents, 3 for pixels.
      latent_downsampling: pixels per latent side; 1 means the model works on pixels.
      patch_size: side of a patch, in latents or pixels.
      prediction: what the head's output means, `velocity` or `clean` (the image itself).
      head: `linear` (the original), `blend` (per-pixel weights over the sources and a painting) or
        `bands` (weights for every frequency band of the sources, and a painting).
      source_skip: adds the sources' patches to the target tokens at the same place.
      conv_stem: adds what a small convolutional network sees in the sources to the target tokens.
      pooled_prompt: adds the prompt, pooled to one vector, to all target tokens.
      pos_embed_max_size: side of the sin-cos table in patches (DESIGN: 192).
      rms_norm_eps: epsilon of RMSNorm.
      rope_theta: base of the rotary frequencies.
      rope_short_factor: LongRoPE divisors, one per frequency; empty means plain RoPE.
      rope_long_factor: the same beyond `original_max_position` positions.
      original_max_position: longest sequence `rope_short_factor` serves.
      max_position: longest sequence of the model.
      dtype: computation type; parameters stay float32.
      attention: name of the attention implementation.
      remat: name of the rematerialisation policy.
      unroll: whether the layers are written out one by one instead of as a loop: compiles longer,
        runs faster; on a CPU `remat` then saves nothing.
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
    pos_embed_max_size: int = 192
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_short_factor: tuple[float, ...] = ()
    rope_long_factor: tuple[float, ...] = ()
    original_max_position: int = 4096
    max_position: int = 4096
    dtype: str = "float32"
    attention: str = "xla"
    remat: str = "none"
    unroll: bool = False

    def __post_init__(self):
        def need(ok: bool, message: str):
            if not ok:
                raise UserError(f"model {self.preset!r}: {message}")

        for name in _AT_LEAST_ONE:
            need(getattr(self, name) >= 1, f"{name} must be at least 1")
        need(
            self.hidden_size % (2 * self.num_heads) == 0,
            f"hidden_size {self.hidden_size} must be an even multiple of num_heads "
            f"{self.num_heads}",
        )
        need(self.hidden_size % 4 == 0, "hidden_size must be a multiple of 4 (sin-cos table)")
        need(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}",
        )
        need(1 <= self.max_images <= 4, "max_images must be 1..4")
        need(
            len(self.text_slots) == 3 and min(self.text_slots) >= 1,
            "text_slots must be three capacities (first, middle, last) of at least 1",
        )
        need(self.prediction in PREDICTIONS, f"prediction must be one of {PREDICTIONS}")
        need(self.head in HEADS, f"head must be one of {HEADS}")
        need(self.dtype in DTYPES, f"dtype must be one of {DTYPES}")
        need(
            self.head == "linear" or (self.prediction == "clean" and self.latent_downsampling == 1),
            f"head {self.head!r} weighs the sources' pixels: it needs prediction='clean' and "
            "pixels (latent_downsampling=1)",
        )
        need(
            self.latent_downsampling > 1 or self.channels == 3,
            f"pixels (latent_downsampling=1) have 3 channels, not {self.channels}",
        )
        need(
            not self.conv_stem or (self.latent_downsampling == 1 and self.patch_size % 4 == 0),
            "conv_stem looks at cells of 4 pixels: it needs pixels (latent_downsampling=1) and a "
            "patch_size that is a multiple of 4",
        )
        need(
            bool(self.rope_short_factor) == bool(self.rope_long_factor),
            "rope_short_factor and rope_long_factor must be given both or not at all",
        )
        for name in ("rope_short_factor", "rope_long_factor"):
            factors = getattr(self, name)
            need(
                len(factors) in (0, self.head_dim // 2),
                f"{name} has {len(factors)} values, the head dimension {self.head_dim} needs "
                f"{self.head_dim // 2}",
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def pixels_per_token(self) -> int:
        """Side in pixels of the square one target token stands for."""
        return self.patch_size * self.latent_downsampling

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this (DESIGN section 2: 16)."""
        return math.lcm(16, self.pixels_per_token)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Builds a config from plain values (a recipe's `model` section, a checkpoint's JSON).

        Raises:
          UserError: a key is unknown or missing, or the values contradict each other.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise UserError(f"model: unknown key {unknown[0]!r}; known: {', '.join(fields)}")
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
