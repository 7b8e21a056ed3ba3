"""Pairs to try: sample photographs, as two cameras or settings would show them."""

from pathlib import Path

import numpy as np

from ditfuse_jax.degrade import exposure_pair, focus_pair
from ditfuse_jax.images import resize_image, write_image
from ditfuse_jax.pipeline import open_source

_SIDE = 320  # pixels of the longer side


def write_examples(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Writes the examples' images; needs the extra `samples`, which `app` holds.

    Returns:
      Title -> the paths of its images, and its task.
    """
    source = open_source("samples:heldout")
    photographs = {name: source[k][0] for k, name in enumerate(source.names)}
    made = {}
    for title, name, task in (
        ("Two focus settings", "chelsea", "mff"),
        ("Two exposures", "coffee", "mef"),
    ):
        image = photographs[name]
        scale = _SIDE / max(image.shape[:2])
        image = resize_image(image, *(round(side * scale) for side in image.shape[:2]))
        rng = np.random.default_rng(3)
        if task == "mff":
            focus = focus_pair(image, rng)
            pair = {"near": focus.near, "far": focus.far}
        else:
            exposures = exposure_pair(image, rng)
            pair = {"under": exposures.under, "over": exposures.over}
        paths = []
        for which, pixels in pair.items():
            path = folder / f"{name}_{which}.png"
            write_image(path, pixels)
            paths.append(str(path))
        made[title] = (paths, task)
    return made
