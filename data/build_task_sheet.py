"""Draws `docs/images/tasks.jpg`: an example of every task, made from the sample photographs.

    python data/build_task_sheet.py

scikit-image has no infrared images and no labels.  In the sheet, a photograph's red channel stands
in for the infrared image, and labels are derived from its colours; training uses real ones.
"""

from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.images import read_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.tasks import TASKS, Example

CROP = (256, 256)
SEED = 7
ROWS = (
    ("m3", "chelsea"),
    ("m3_extended", "coffee"),
    ("mff", "astronaut"),
    ("mff", "coffee"),
    ("mef", "coffee"),
    ("mef", "astronaut"),
    ("ivif", "astronaut"),
    ("ivif_pyramid", "astronaut"),
    ("ivif_gradient", "astronaut"),
    ("control_mef", "astronaut"),
    ("control_m3", "chelsea"),
    ("segmentation", "rocket"),
)


def photographs() -> dict[str, np.ndarray]:
    """Returns the sample photographs by name."""
    found = {}
    for split in ("train", "heldout"):
        source = open_source(f"samples:{split}")
        found |= {name: source[k][0] for k, name in enumerate(source.names)}
    return found


def stand_in(task: str, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the images that a task takes, made from one photograph."""
    if task.startswith("ivif"):
        warm = cv2.equalizeHist(image[..., 0])[..., None].repeat(3, axis=2)
        return (image // 2, warm)
    if task == "segmentation":
        sky = image[..., 2] > image[..., 0].astype(int) + 15
        return image, np.where(sky, 0, 11).astype(np.uint8)[..., None].repeat(3, axis=2)
    return (image,)


def example(task: str, image: np.ndarray) -> Example:
    return TASKS[task](stand_in(task, image), np.random.default_rng(SEED), CROP)


def main() -> None:
    images = photographs()
    made = [example(task, images[name]) for task, name in ROWS]
    for (task, _), shown in zip(ROWS, made, strict=True):
        print(f"{task}: {shown.prompt.rsplit('</img>. ', 1)[-1]}")
    path = Path(__file__).parents[1] / "docs" / "images" / "tasks.png"
    write_sheet(
        path,
        [[*shown.sources, shown.target] for shown in made],
        ["View A", "View B", "Target"],
        [task for task, _ in ROWS],
        tile_width=160,
    )
    sheet = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path.with_suffix(".jpg")), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    path.unlink()


if __name__ == "__main__":
    main()
