"""Packing crops of photographs with their latents' moments, so that training need not encode."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.access import load_image
from ditfuse_jax.pipeline.packed_manifest import NAME_ERRORS
from ditfuse_jax.pipeline.packer import PackedRecord, encode
from ditfuse_jax.tasks.crop import random_crop_and_flip
from ditfuse_jax.weights.autoencoder import fingerprint, load_autoencoder


@dataclasses.dataclass(frozen=True)
class MomentsPacker:
    """Packs random crops of photographs, losslessly, with their posterior's mean and log variance.

    The crops of a photograph depend only on its name and the seed.  Moments are float32, because
    half precision cannot resolve the narrow posterior.

    Attributes:
      autoencoder: its folder.
      crop: (height, width).
      crops: of each photograph.
      seed: of the crops.
    """

    autoencoder: Path
    crop: tuple[int, int]
    crops: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crops < 1:
            raise UserError(f"crops must be at least 1, not {self.crops}")
        factor = _loaded(self.autoencoder).downsampling
        if any(side < 1 or side % factor for side in self.crop):
            raise UserError(
                f"crop {self.crop} cannot be encoded: both sides must be multiples of {factor}"
            )

    @property
    def options(self) -> dict[str, Any]:
        return {
            "autoencoder": fingerprint(self.autoencoder),
            "crop": list(self.crop),
            "crops": self.crops,
            "seed": self.seed,
        }

    @property
    def moments(self) -> tuple[int, int, int]:
        loaded = _loaded(self.autoencoder)
        height, width = (side // loaded.downsampling for side in self.crop)
        return height, width, 2 * loaded.channels

    def __call__(
        self, name: str, paths: Sequence[Path], labels: Container[int]
    ) -> Sequence[PackedRecord]:
        """See `Packer`."""
        if len(paths) != 1:
            raise UserError(
                f"{name}: moments are packed for photographs, not for stacks of {len(paths)} images"
            )
        image = load_image(paths[0])
        number = zlib.crc32(name.encode(errors=NAME_ERRORS))
        rng = np.random.default_rng((self.seed, number))
        crops = [
            random_crop_and_flip([image], rng, self.crop, vertical_flip=False)[0]
            for _ in range(self.crops)
        ]
        moments = _loaded(self.autoencoder).encode(np.stack(crops))
        return [
            PackedRecord(f"{name}#{k}", (encode(crop, ".png"),), self.crop, of_crop)
            for k, (crop, of_crop) in enumerate(zip(crops, moments, strict=True))
        ]


@dataclasses.dataclass(frozen=True)
class _Loaded:
    downsampling: int
    channels: int
    encode: Callable[[np.ndarray], np.ndarray]


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path) -> _Loaded:
    loaded = load_autoencoder(folder)

    @jax.jit
    def moments(parameters: Any, images: jax.Array) -> jax.Array:
        posterior = nnx.merge(loaded.graph, parameters).encode(images / 127.5 - 1.0)
        return jnp.concatenate(posterior, axis=-1)

    parameters = jax.device_put(loaded.parameters)
    return _Loaded(
        loaded.config.downsampling,
        loaded.config.latent_channels,
        lambda images: np.asarray(moments(parameters, images.astype(np.float32))),
    )
