"""Steps of sampling with one model; settings share one training.

    ditfuse sweep sampling_steps --workdir runs/steps               (trains nano_m3 first)
    ditfuse sweep sampling_steps:runs/mine --workdir runs/steps     (a run, or OmniGen's folder)

Time and result: not measured.

Scored on pairs of M3 views of held-out photographs; to use other data, change `evaluate` in a copy
of this file.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is a trained model."""
    return Sweep(
        {f"{steps} steps": (f"--config.sample.steps={steps}",) for steps in (1, 2, 4, 8, 16, 50)},
        recipe="" if arg else "nano_m3",
        checkpoint=arg,
        evaluate=("--data", "samples:heldout", "--count", "6"),
    )
