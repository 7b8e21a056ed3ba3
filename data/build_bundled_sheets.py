"""Draws `docs/images/bundled_*.jpg`: outputs of the bundled model for each task.

    python data/build_bundled_sheets.py [MODEL]

The sources are made from sample photographs of scikit-image that the bundled model was not trained
on.  There are no infrared images among them: a photograph's dimmed colours stand in for the visible
image, its equalised red channel for the infrared one.  MODEL is any checkpoint of `ditfuse fuse`.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.degrade import M3_PRESETS, degrade_views, exposure_pair, focus_pair
from ditfuse_jax.degrade.defects import apply_defect
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.images import read_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.prompts.requests import DEFECTS, parse_requests
from ditfuse_jax.sample import FusionInput, StackFuser
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.standard_prompts import CONTROL_TASKS
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
    views = degrade_views(image, rng, M3_PRESETS["paper"])
    return views.view_a, views.view_b


def three(image: np.ndarray, rng: np.random.Generator) -> Stack:
    """Returns three sources: front in focus, back in focus, and underexposed but sharp."""
    return *mff(image, rng), exposure_pair(image, rng).under


@dataclasses.dataclass(frozen=True)
class Sheet:
    """How sources are made from a photograph, their titles, and the tasks or requests."""

    make: Callable[[np.ndarray, np.random.Generator], Stack]
    titles: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    photographs: tuple[str, ...] = ("camera", "chelsea", "coffee")


SHEETS = {
    "ivif": Sheet(ivif, ("Dim", "Equalised red"), ("ivif",)),
    "mff": Sheet(mff, ("Front in focus", "Back in focus"), ("mff",)),
    "mef": Sheet(mef, ("Underexposed", "Overexposed"), ("mef",)),
    "m3": Sheet(fuse, ("View A", "View B"), ("fuse",)),
    "three": Sheet(three, ("Front", "Back", "Dark"), ("fuse",)),
    "control": Sheet(mff, ("Front", "Back"), ("mff", *CONTROL_TASKS)),
    "segmentation": Sheet(
        fuse,
        ("View A", "View B"),
        ("segment", "segment:sky", "segment:building", "segment:tree"),
        photographs=("camera", "rocket"),
    ),
    "requests": Sheet(
        ivif,
        ("Dim", "Equalised red"),
        requests=(
            "nothing",
            *("saturation -2", "saturation +2", "detail -2", "detail +2"),
            *("emphasis infrared -2", "emphasis infrared +2"),
            "brightness +1; saturation +1; detail +1",
        ),
        photographs=("chelsea", "coffee", "astronaut"),
    ),
    "regions": Sheet(
        mff,
        ("Front", "Back"),
        requests=("nothing", "sky: brightness -2", "building: brightness +2", "segment sky"),
        photographs=("camera", "rocket"),
    ),
}


def photographs() -> Mapping[str, np.ndarray]:
    """Returns sample photographs that the bundled model was not trained on; `nano_m3` was."""
    sources = [open_source(f"samples:{part}") for part in ("heldout", "train")]
    return {name: source[k][0] for source in sources for k, name in enumerate(source.names)}


def main(model: str) -> None:
    trained = load_trained(model)
    fuser = StackFuser(trained, trained.sampling)
    images = photographs()
    for name, sheet in SHEETS.items():
        rows = []
        for stem in sheet.photographs:
            stack = sheet.make(images[stem], np.random.default_rng(SEED))
            inputs = [
                make_instruction(None, len(stack), fuser.sampling, task).fusion_input(stack)
                for task in sheet.tasks
            ]
            inputs += [requested(stack, text, fuser) for text in sheet.requests]
            rows.append([*stack, *fuser.fuse(inputs)])
        asked = (*sheet.tasks, *sheet.requests)
        columns = (*sheet.titles, *(asked if len(asked) > 1 else ("Fused",)))
        draw(f"bundled_{name}", rows, columns, sheet.photographs)
    draw("bundled_repairs", *repairs(images["coffee"], fuser))


def requested(stack: Stack, text: str, fuser: StackFuser) -> FusionInput:
    """Returns what is fused for requests, as `describe` writes them."""
    asked = make_instruction(
        None, len(stack), fuser.sampling, "ivif", adjustments=parse_requests(text)
    )
    return asked.fusion_input(stack)


def repairs(
    image: np.ndarray, fuser: StackFuser
) -> tuple[list[list[np.ndarray]], Sequence[str], Sequence[str]]:
    """Returns rows of pictures, titles and names: every defect of the first source, repaired."""
    visible, infrared = ivif(2 * (image // 2), np.random.default_rng(SEED))
    visible = 2 * visible
    rows = []
    for number, defect in enumerate(DEFECTS):
        rng = np.random.default_rng((SEED, number))
        damaged = [apply_defect(visible, defect, 0.5, rng), infrared]
        inputs = [requested([visible, infrared], "nothing", fuser)]
        inputs += [
            requested(damaged, text, fuser) for text in ("nothing", f"repair {defect} first")
        ]
        rows.append([damaged[0], infrared, *fuser.fuse(inputs)])
    titles = ("Damaged", "Equalised red", "Fused, undamaged", "Fused, damaged", "Fused, repaired")
    return rows, titles, DEFECTS


def draw(
    name: str, rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], names: Sequence[str]
) -> None:
    """Writes a sheet as `docs/images/NAME.jpg`."""
    path = IMAGES / f"{name}.png"
    write_sheet(path, rows, titles, names, tile_width=300 if len(titles) < 6 else 170)
    picture = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path.with_suffix(".jpg")), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
    path.unlink()
    print(path.with_suffix(".jpg"))


if __name__ == "__main__":
    main(*sys.argv[1:] or [SHIPPED])
