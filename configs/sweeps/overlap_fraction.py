"""M3's both-view share: how many blocks are damaged in both views.

    ditfuse sweep overlap_fraction --workdir runs/overlap_fraction

At 0 the model need only choose; the more is lost in both views, the more it must restore.  Every
setting is scored on the same views, those of the paper's quarter.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    task = "--config.data.mixture.photos.task"
    others = {f"{share}": (f"{task}=m3:overlap_fraction={share}",) for share in (0, 0.5, 0.75, 1)}
    return Sweep({"0.25 (paper)": (), **others}, recipe="nano_m3")
