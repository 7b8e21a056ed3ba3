"""Loss weighting: error of the velocity or of the image, with or without the gradient loss.

    ditfuse sweep loss --workdir runs/loss

Time and result: not measured.

Compare the scores: losses of different weightings are not comparable.
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
