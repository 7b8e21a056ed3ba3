import dataclasses
import json

import pytest

from ditfuse_jax.resources import resource
from ditfuse_jax.weights import SHIPPED, open_checkpoint
from ditfuse_jax.weights.best_step import FILE
from ditfuse_jax.weights.license import LICENSE, find_license

OF_SHIPPED = resource("data", SHIPPED) / LICENSE


@pytest.fixture
def checkpoint():
    return open_checkpoint(SHIPPED)


def test_the_bundled_weights_have_their_own(checkpoint):
    assert find_license(checkpoint) == OF_SHIPPED


@pytest.mark.parametrize("name", ["run", "run/checkpoints/7"])
def test_a_run_has_the_licence_of_the_weights_that_it_started_from(checkpoint, tmp_path, name):
    """The licence of the checkout in which a run lies is that of the code."""
    project = tmp_path / "project"
    folder = project / "runs" / name
    folder.mkdir(parents=True)
    for place in (project, project / "runs"):
        (place / LICENSE).write_text("of the code")
    run = dataclasses.replace(checkpoint, path=str(folder), config={"weights": SHIPPED})
    assert find_license(run) == OF_SHIPPED
    (project / "runs" / "run" / LICENSE).write_text("of the run")
    assert find_license(run) == project / "runs" / "run" / LICENSE


def test_the_best_step_of_a_run_has_the_licence_of_the_run(checkpoint, tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints" / "7").mkdir(parents=True)
    (folder / LICENSE).write_text("of the run")
    best = {"metric": "eval/PSNR_clean", "direction": "higher", "values": {"7": 30.0}}
    (folder / FILE).write_text(json.dumps(best))
    run = dataclasses.replace(checkpoint, path=f"{folder}@best", config={"weights": SHIPPED})
    assert find_license(run) == folder / LICENSE
