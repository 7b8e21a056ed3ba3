"""Noise draws K that share one pass over the condition, at equal steps.

    ditfuse sweep noise_draws --workdir runs/noise_draws

More draws cost more per step; `images_per_second` in a run's metrics.jsonl tells how much.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    settings = {f"K = {draws}": (f"--config.flow.draws={draws}",) for draws in (1, 2, 4)}
    return Sweep(settings, recipe="nano_m3")
