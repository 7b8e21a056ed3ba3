"""How training images are made: degradations, defocus, exposure, tone, pseudo-targets."""

from ditfuse_jax.degrade.camera import ExposurePair, exposure_pair
from ditfuse_jax.degrade.defocus import FocusPair, focus_pair
from ditfuse_jax.degrade.m3 import M3_PRESETS, Block, M3Config, M3Views, degrade_views
from ditfuse_jax.degrade.misalign import misalign
from ditfuse_jax.degrade.overlay import overlay, overlay_all, overlay_mask
from ditfuse_jax.degrade.pseudo_target import PSEUDO_TARGETS
from ditfuse_jax.degrade.registry import DEGRADATIONS
from ditfuse_jax.degrade.tone import BRIGHTNESS, CONTRAST, TONES, adjust_tone

__all__ = [
    "BRIGHTNESS",
    "CONTRAST",
    "DEGRADATIONS",
    "M3_PRESETS",
    "PSEUDO_TARGETS",
    "TONES",
    "Block",
    "ExposurePair",
    "FocusPair",
    "M3Config",
    "M3Views",
    "adjust_tone",
    "degrade_views",
    "exposure_pair",
    "focus_pair",
    "misalign",
    "overlay",
    "overlay_all",
    "overlay_mask",
]
