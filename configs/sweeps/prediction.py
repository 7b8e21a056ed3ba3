"""What the network predicts: velocity, or the clean image: drawn, or of the sources' parts.

    ditfuse sweep prediction --workdir runs/prediction

Losses cannot be compared where the head differs in kind; the scores can.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    linear = "--config.model.head=linear"
    settings = {
        "clean, blend": (),
        "clean, bands": ("--config.model.head=bands",),
        "clean": (linear,),
        "velocity": (linear, "--config.model.prediction=velocity"),
    }
    return Sweep(settings, recipe="nano_m3")
