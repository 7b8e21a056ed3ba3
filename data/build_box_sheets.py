"""Draws `docs/images/box_*.jpg`: what the model in the box makes of each task.

    python data/build_box_sheets.py [MODEL]

The sources are made from scikit-image's sample photographs that no model here was trained on; it
carries no infrared images, so a photograph's dimmed colours and its equalised red channel stand in.
MODEL is anything `ditfuse fuse --checkpoint` takes; by default the model in the box.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.degrade import PRESETS, degrade_views, exposure_pair, focus_pair
from ditfuse_jax.evaluate.sheets import write_sheet
from ditfuse_jax.images import read_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.sample.files import standard_prompt
from ditfuse_jax.sample.fuser import Fuser, Job, sampling_settings
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.weights import SHIPPED

SEED = 11
IMAGES = Path(__file__).parents[1] / "docs" / "images"
Stack = Sequence[np.ndarray]


def mff(image: np.ndarray, rng: np.random.Generator) -> Stack:
    pair = focus_pair(image, rng)
    return pair.near, pair.far


def mef(image: np.ndarray, rng: np.random.Generator) -> Stack:
    pair = exposure_pair(image, rng)
    return pair.under, pair.over


def ivif(image: np.ndarray, rng: np.random.Generator) -> Stack:
    del rng
    return image // 2, cv2.equalizeHist(image[..., 0])[..., None].repeat(3, axis=2)


def fuse(image: np.ndarray, rng: np.random.Generator) -> Stack:
    views = degrade_views(image, rng, PRESETS["paper"])
    return views.view_a, views.view_b


def three(image: np.ndarray, rng: np.random.Generator) -> Stack:
    """Focused on the front, on the back, and too dark but sharp everywhere."""
    return *mff(image, rng), exposure_pair(image, rng).under


# Sheet -> how sources are made, the task they are fused as, the columns.
SHEETS = {
    "ivif": (ivif, "ivif", ("Dim", "Equalised red", "Fused")),
    "mff": (mff, "mff", ("Front in focus", "Back in focus", "Fused")),
    "mef": (mef, "mef", ("Underexposed", "Overexposed", "Fused")),
    "m3": (fuse, "fuse", ("View A", "View B", "Fused")),
    "three": (three, "fuse", ("Front", "Back", "Dark", "Fused")),
}


def photographs() -> Mapping[str, np.ndarray]:
    source = open_source("samples:heldout")
    return {name: source[k][0] for k, name in enumerate(source.names)}


def main(model: str) -> None:
    trained = load_trained(model)
    fuser = Fuser(trained, sampling_settings(trained, {}))
    for name, (make, task, columns) in SHEETS.items():
        rows, names = [], []
        for stem, image in photographs().items():
            stack = make(image, np.random.default_rng(SEED))
            (fused,) = fuser.fuse([Job(stack, standard_prompt(task, len(stack)))])
            rows.append([*stack, fused])
            names.append(stem)
        path = IMAGES / f"box_{name}.png"
        write_sheet(path, rows, columns, names, tile_width=300)
        sheet = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(path.with_suffix(".jpg")), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
        path.unlink()
        print(path.with_suffix(".jpg"))


if __name__ == "__main__":
    main(*sys.argv[1:] or [SHIPPED])
