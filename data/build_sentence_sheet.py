"""Draws `docs/images/sentences.jpg`: one pair, fused by the bundled model with several sentences.

    python data/build_sentence_sheet.py

The pairs are made from sample photographs of scikit-image that the bundled model was not trained
on; the script prints what each sentence was understood as.
"""

from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax import Fuser
from ditfuse_jax.degrade import exposure_pair, focus_pair
from ditfuse_jax.evaluate.reports.contact_sheet import contact_sheet
from ditfuse_jax.pipeline import open_source

SEED = 11
SENTENCES = ("just fuse them", "much darker", "a little brighter", "lower the contrast")


def pairs() -> dict[str, tuple[str, tuple[np.ndarray, ...]]]:
    """Returns name -> task and sources."""
    images = {}
    for part in ("heldout", "train"):
        source = open_source(f"samples:{part}")
        images |= {name: source[k][0] for k, name in enumerate(source.names)}
    focus = focus_pair(images["chelsea"], np.random.default_rng(SEED))
    exposure = exposure_pair(images["coffee"], np.random.default_rng(SEED))
    return {
        "two focus settings": ("mff", (focus.near, focus.far)),
        "two exposures": ("mef", (exposure.under, exposure.over)),
    }


def main() -> None:
    fuser = Fuser.load()
    rows = []
    for task, sources in pairs().values():
        fused = [fuser(*sources, sentence, task=task) for sentence in SENTENCES]
        print(*(f"{s}: {f.understood}" for s, f in zip(SENTENCES, fused, strict=True)), sep="\n")
        rows.append([*sources, *(f.image for f in fused)])
    titles = ("first", "second", *(f'"{sentence}"' for sentence in SENTENCES))
    sheet = contact_sheet(rows, titles, tuple(pairs()), tile_width=230)
    path = Path(__file__).parents[1] / "docs" / "images" / "sentences.jpg"
    picture = cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
