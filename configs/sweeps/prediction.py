"""What the network predicts: the velocity, or the clean image, generated or blended from sources.

    ditfuse sweep prediction --workdir runs/prediction

Time and result: not measured.

Compare the scores: losses of different heads are not comparable.
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
