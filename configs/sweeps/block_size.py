"""M3's block size: one size for all photographs, compared with the paper's mixture of sizes.

    ditfuse sweep block_size --workdir runs/block_size

Time and result: not measured.

Every setting is scored on the same views, those of the paper's mixture
(`evaluations.held_out.task`).  A crop must hold several blocks: with `nano_m3`'s 128 pixels, a
block of 128 damages a whole view.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    task = "--config.data.mixture.photos.task"
    single = {f"{side} px": (f"{task}=m3:block_sides={side}",) for side in (16, 32, 64, 128)}
    return Sweep({"32, 64, 128 (paper)": (), **single}, recipe="nano_m3")
