"""The fraction of M3's blocks that are damaged in both views.

    ditfuse sweep overlap_fraction --workdir runs/overlap_fraction

Time and result: not measured.

At 0 one view is intact everywhere and the model has to choose only; the larger the fraction, the
more it has to restore.  Every setting is scored on the same views, with the paper's 0.25.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    task = "--config.data.mixture.photos.task"
    others = {f"{share}": (f"{task}=m3:overlap_fraction={share}",) for share in (0, 0.5, 0.75, 1)}
    return Sweep({"0.25 (paper)": (), **others}, recipe="nano_m3")
