"""Published fused images, scored independently in float64, give the same numbers here."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.evaluate.metrics import compute_metrics, compute_metrics_of_candidates

pytestmark = pytest.mark.medium

SHARED = Path(__file__).parents[4] / "shared"
VIEWS = {
    "ivif/tno_dev": ("vi", "ir"),
    "mef/mefb_dev": ("under", "over"),
    "mff/lytro_dev": ("a", "b"),
}
# Relative; 1e-6 for all others.  Q_CB divides by contrasts that can come out near zero.
TOLERANCE = {"SSIM": 2e-6, "VIF": 1e-4, "Qcb": 5e-4, "Qcv": 1e-5}
# Absolute: the two correlations that SCD adds can nearly cancel.
LEAST = 5e-8
SMALL = {"ivif/tno_dev": "11", "mef/mefb_dev": "507", "mff/lytro_dev": "lytro_12"}


def read(folder: Path, stem: str) -> np.ndarray:
    (path,) = folder.glob(f"{stem}.*")
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def golden() -> dict:
    path = SHARED / "golden" / "metrics.json"
    if not path.exists() or not all((SHARED / "data" / name).exists() for name in VIEWS):
        pytest.skip("../shared/golden/metrics.json or a set of ../shared/data is absent")
    return json.loads(path.read_text())


def deviations(golden: dict, dataset: str, stem: str) -> dict[tuple[str, str], float]:
    """Relative, of every method's image of a scene and every metric."""
    folder, expected = SHARED / "data" / dataset, golden[dataset]
    sources = [read(folder / view, stem) for view in VIEWS[dataset]]
    methods = [method for method in expected if stem in expected[method]]
    fused = [read(folder / "published" / method, stem) for method in methods]
    scores = compute_metrics_of_candidates(fused, sources, names=list(expected[methods[0]][stem]))
    return {
        (method, name): (abs(values[i] - (e := expected[method][stem][name])) - LEAST) / abs(e)
        for name, values in scores.items()
        for i, method in enumerate(methods)
    }


@pytest.mark.parametrize(
    "dataset", [pytest.param(n, marks=pytest.mark.slow if "lytro" in n else ()) for n in VIEWS]
)
def test_published_images_of_one_scene_have_their_golden_values(golden, dataset):
    for (method, name), deviation in deviations(golden, dataset, SMALL[dataset]).items():
        assert deviation < TOLERANCE.get(name, 1e-6), f"{name} of {method}"


@pytest.mark.slow
@pytest.mark.parametrize("dataset", VIEWS)
def test_all_published_images_have_their_golden_values(golden, dataset):
    stems = next(iter(golden[dataset].values()))
    for stem in stems:
        for (method, name), deviation in deviations(golden, dataset, stem).items():
            assert deviation < TOLERANCE.get(name, 1e-6), f"{name} of {method} on {stem}"


@pytest.mark.slow
def test_a_copy_of_a_source_beats_a_good_method(golden):
    """The ceiling that makes baselines necessary: VIF about 1 and Qabf .54 for a copy, on TNO."""
    folder = SHARED / "data" / "ivif/tno_dev"
    rows = []
    for stem in ("19", "23", "29"):
        a, b = (read(folder / view, stem) for view in VIEWS["ivif/tno_dev"])
        model = read(folder / "published" / "SeAFusion", stem)
        rows.append(
            compute_metrics_of_candidates(
                [a, np.maximum(a, b), model], [a, b], names=["VIF", "Qabf"]
            )
        )
    vif, qabf = (np.mean([row[name] for row in rows], axis=0) for name in ("VIF", "Qabf"))
    assert vif[0] == pytest.approx(1.02, abs=0.1) and qabf[0] == pytest.approx(0.54, abs=0.1)
    assert vif[0] > vif[1] > vif[2]
    assert compute_metrics(a, [a, a], names=["VIF"])["VIF"] == pytest.approx(2, rel=1e-5)
