"""Targets of infrared-visible fusion: mean (paper), pyramid, gradient, strongest detail.

    ditfuse sweep ivif_target:/my/pairs --workdir runs/ivif

Time and result: not measured.

The folder holds registered pairs (`image1/`, `image2/`); a source like
`dataset:msrs@/data/MSRS.zip` works as well.  As the targets differ, models are not scored against
them but with metrics of the fused image and its sources, on the same pairs.  To score on other
pairs than those of the training, change `evaluate` in a copy of this file.
"""

from ditfuse_jax.errors import UserError
from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is the source of pairs."""
    if not arg:
        raise UserError("name the pairs: ditfuse sweep ivif_target:/my/pairs")
    photos = "--config.data.mixture.photos"
    targets = {
        "mean (paper)": "ivif",
        "pyramid": "ivif_pyramid",
        "gradient": "ivif_gradient",
        "detail": "ivif_detail",
    }
    return Sweep(
        {
            name: (f"{photos}.task={task}", f"--config.evaluations.held_out.task={task}")
            for name, task in targets.items()
        },
        recipe="nano_m3",
        overrides=(f"{photos}.source={arg}", f"--config.evaluations.held_out.source={arg}"),
        evaluate=("--data", arg, "--task", "ivif"),
    )
