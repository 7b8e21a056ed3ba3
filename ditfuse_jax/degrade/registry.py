"""The registry of degradations, by the names that configs use."""

from ditfuse_jax.degrade.blur import box_blur, gaussian_blur, median_blur
from ditfuse_jax.degrade.degradation import Degradation, one_of
from ditfuse_jax.degrade.exposure import colour_shift, exposure_imbalance, low_light
from ditfuse_jax.degrade.mask import mask
from ditfuse_jax.degrade.misalign import misalign
from ditfuse_jax.degrade.noise import gaussian_noise, salt_and_pepper
from ditfuse_jax.registry import Registry

DEGRADATIONS: Registry[Degradation] = Registry(
    "degradation",
    {
        "mask": mask,
        "blur": one_of(gaussian_blur, box_blur, median_blur),
        "gaussian_blur": gaussian_blur,
        "box_blur": box_blur,
        "median_blur": median_blur,
        "noise": one_of(gaussian_noise, salt_and_pepper),
        "gaussian_noise": gaussian_noise,
        "salt_and_pepper": salt_and_pepper,
        "low_light": low_light,
        "colour_shift": colour_shift,
        "exposure_imbalance": exposure_imbalance,
        "misalign": misalign,
    },
)
