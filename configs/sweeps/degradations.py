"""M3's degradations: each alone, in pairs, the paper's three, and the extended set.

    ditfuse sweep degradations --workdir runs/degradations

Time and result: not measured.

Every setting is scored on the same views, damaged by the paper's three degradations.
"""

from itertools import combinations

from ditfuse_jax.sweep import Sweep

PAPER = ("mask", "blur", "noise")


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    task = "--config.data.mixture.photos.task"
    sets = [some for count in (1, 2) for some in combinations(PAPER, count)]
    parts = {" + ".join(some): (f"{task}=m3:degradations={'+'.join(some)}",) for some in sets}
    settings = {"all three (paper)": (), **parts, "extended": (f"{task}=m3_extended",)}
    return Sweep(settings, recipe="nano_m3")
