"""Guidance scales (text / images) of one model; settings share one training.

    ditfuse sweep guidance:runs/mine --workdir runs/guidance
    ditfuse sweep guidance:OmniGen-v1 --workdir runs/guidance

Time and result: not measured.

2.0 / 1.6 is OmniGen's default, 2.5 / 2.0 the paper's for several instructions on one pair, and
1.0 / 1.0 no guidance.  Guidance needs a model that was trained with `data.condition_dropout`.
"""

from ditfuse_jax.sweep import Sweep

SCALES = ((1.0, 1.0), (1.5, 1.3), (2.0, 1.6), (2.5, 2.0), (3.0, 2.0))


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is a trained model, without it `nano_m3` is trained."""
    settings = {
        f"{text} / {images}": (
            f"--config.sample.guidance_scale={text}",
            f"--config.sample.image_guidance_scale={images}",
        )
        for text, images in SCALES
    }
    return Sweep(
        settings,
        recipe="" if arg else "nano_m3",
        checkpoint=arg,
        evaluate=("--data", "samples:heldout", "--count", "6"),
    )
