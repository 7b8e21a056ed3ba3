"""Requests measured on stand-in models that obey, ignore or reverse them.

The fused image is the first source, changed as the prompt's tags ask.
"""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from ditfuse_jax.degrade.adjust import adjust, emphasise
from ditfuse_jax.evaluate.instruction_following.axis_measures import (
    AXIS_MEASURES,
    source_share,
)
from ditfuse_jax.evaluate.instruction_following.request_control import measure_requests
from ditfuse_jax.evaluate.runner.evaluated_model import EvaluatedModel
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import write_image

TAG = re.compile(r"<(LIGHT|CONTRAST|SATURATION|DETAIL|EMPHASIS)([+-]+)>")
AXES = "brightness,contrast,saturation,detail"


def _wave(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    wave = 125 + 50 * np.sin(x / (4 + seed)) + 25 * np.cos(y / 6)
    noise = rng.integers(-8, 9, (48, 64, 1))
    return np.clip(wave[..., None] + noise + np.array([20, 0, -25]), 0, 255).astype(np.uint8)


@pytest.fixture
def pairs(tmp_path):
    for side in (1, 2):
        folder = tmp_path / "pairs" / f"image{side}"
        folder.mkdir(parents=True)
        for stem in (0, 3):
            write_image(folder / f"{stem}.png", _wave(side + stem))
    return str(tmp_path / "pairs")


@pytest.fixture
def measure(pairs, tmp_path):
    def run(sign: int, requests: str = f"{AXES},compounds", axes: str = AXES):
        def fuse(jobs):
            images = []
            for job in jobs:
                image = job.sources[0]
                if requests == "emphasis":
                    image = np.mean(job.sources, axis=0).astype(np.uint8)
                for name, signs in TAG.findall(job.prompt):
                    axis = "brightness" if name == "LIGHT" else str(name).lower()
                    level = sign * (signs.count("+") - signs.count("-"))
                    if axis == "emphasis":
                        image = emphasise(image, job.sources, 0, level)
                    elif axis in axes:
                        image = adjust(image, axis, level)
                images.append(image)
            return images

        sampling = SamplingConfig(steps=1, requests=requests, apply_requests=False)
        fuser = SimpleNamespace(
            fuse=fuse, sampling=sampling, trained=SimpleNamespace(name="stand-in")
        )
        evaluated = EvaluatedModel(fuser, tmp_path / "out")
        return measure_requests(evaluated, pairs, quiet=True)

    return run


def test_a_model_that_obeys_has_ordered_levels_degrees_and_small_side_effects(measure, tmp_path):
    results = measure(1)
    assert set(results["axes"]) == set(AXES.split(","))
    for found in results["axes"].values():
        assert found["ordered"] == found["direction"] == found["degree"] == 1
        assert len(found["curve"]) == 5
        assert all(value < 0.5 for value in found["side_effects"].values())
    assert results["compounds"] == 1
    assert results["neutrality"] < 1
    written = json.loads((tmp_path / "out" / "requests.json").read_text())
    assert written["axes"] == results["axes"]
    assert (tmp_path / "out" / "requests.png").stat().st_size > 1000


def test_a_model_that_does_the_opposite_has_no_direction_right(measure):
    results = measure(-1)
    for found in results["axes"].values():
        assert found["ordered"] == found["direction"] == 0
    assert results["compounds"] == 0


def test_a_model_that_ignores_an_axis_is_found_out(measure):
    results = measure(1, axes="brightness")
    assert results["axes"]["brightness"]["ordered"] == 1
    assert results["axes"]["contrast"]["direction"] == 0
    assert results["axes"]["detail"]["degree"] == 0


def test_only_what_was_taught_is_measured(measure):
    results = measure(1, requests="brightness,contrast:1")
    assert set(results["axes"]) == {"brightness", "contrast"}
    assert len(results["axes"]["contrast"]["curve"]) == 3
    assert np.isnan(results["axes"]["contrast"]["degree"])
    assert results["compounds"] is None


def test_emphasis_is_the_share_of_the_source(measure):
    curve = measure(1, requests="emphasis")["axes"]["emphasis"]["curve"]
    assert curve == sorted(curve)
    assert curve[4] - curve[0] > 0.7


def test_the_share_of_a_source_is_its_weight_in_a_blend():
    one, other = _wave(1), _wave(7)
    blend = np.rint(0.3 * one + 0.7 * other).astype(np.uint8)
    assert source_share(blend, (one, other), 0) == pytest.approx(0.3, abs=0.02)
    assert source_share(one, (one, other), 0) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("axis", AXIS_MEASURES)
def test_each_measure_rises_with_its_axis(axis: str):
    values = [AXIS_MEASURES[axis](adjust(_wave(2), axis, level)) for level in (-2, -1, 0, 1, 2)]
    assert values == sorted(values)
