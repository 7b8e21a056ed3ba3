"""Published fused images, scored independently in float64, give the same numbers here."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.evaluate.metrics import score

SHARED = Path(__file__).parents[4] / "shared"
KEYS = {
    "en": ("EN", 1e-6),
    "sd": ("SD", 1e-6),
    "mi": ("MI", 1e-6),
    "mse_sources": ("MSE", 1e-6),
    "psnr_sources": ("PSNR", 1e-6),
    "ssim_sources": ("SSIM", 2e-6),
}


def read(folder: Path, stem: str) -> np.ndarray:
    (path,) = folder.glob(f"{stem}.*")
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    "dataset, views, method, stem",
    [
        ("ivif/tno_dev", ("vi", "ir"), "U2Fusion", "03"),
        ("ivif/tno_dev", ("vi", "ir"), "SeAFusion", "03"),
        ("mef/mefb_dev", ("under", "over"), "MEFNet", "ArtistPalette"),
        ("mff/lytro_dev", ("a", "b"), "DSIFT", "lytro_12"),
    ],
)
def test_published_images_score_as_their_golden_values(dataset, views, method, stem):
    folder, golden = SHARED / "data" / dataset, SHARED / "golden" / "metrics.json"
    if not folder.exists() or not golden.exists():
        pytest.skip(f"../shared/data/{dataset} or ../shared/golden/metrics.json is absent")
    expected = json.loads(golden.read_text())[dataset][method][stem]
    sources = [read(folder / view, stem) for view in views]
    scores = score(read(folder / "published" / method, stem), sources)
    for name, (key, tolerance) in KEYS.items():
        assert scores[name] == pytest.approx(expected[key], rel=tolerance), name
