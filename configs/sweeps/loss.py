"""What the loss counts: errors of the velocity or of the image, and of its detail.

    ditfuse sweep loss --workdir runs/loss

Losses cannot be compared, the scores can.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    image = "--config.flow.weighting=image"
    settings = {
        "velocity (paper)": (),
        "velocity, detail": ("--config.flow.gradient_loss_weight=1.0",),
        "image": (image,),
        "image, detail": (image, "--config.flow.gradient_loss_weight=1.0"),
    }
    return Sweep(settings, recipe="nano_m3")
