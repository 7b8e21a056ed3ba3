"""Noise draws K per pass over the condition, at equal numbers of steps.

    ditfuse sweep noise_draws --workdir runs/noise_draws

Time: not measured with `nano_m3`; with the smaller model of docs/sweeps.md 8 minutes for two seeds
on two shared CPU cores.
Result: there, PSNR 21.64, 21.80 and 22.80 dB for K = 1, 2 and 4.

More draws take longer per step: see `images_per_second` in a run's metrics.jsonl.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    settings = {f"K = {draws}": (f"--config.flow.draws={draws}",) for draws in (1, 2, 4)}
    return Sweep(settings, recipe="nano_m3")
