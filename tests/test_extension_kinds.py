"""One user file outside the package adds an implementation of every kind; real processes use them.

`ditfuse train` runs with a data worker, which is spawned.  `fuse` and `evaluate` do not name the
extension: the run's resolved config does.  An installed package announces it by an entry point.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.images import read_image, write_image

pytestmark = pytest.mark.processes

EXTENSION = '''
"""Registers one implementation of every kind, each with the prefix NAME."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ditfuse_jax.degrade import DEGRADATIONS, M3Config, degrade_views
from ditfuse_jax.evaluate.metrics import register_metric
from ditfuse_jax.flow.solvers import SOLVERS, euler
from ditfuse_jax.model.heads import HEADS
from ditfuse_jax.model.heads.linear import LinearHead
from ditfuse_jax.pipeline.sources import SOURCES
from ditfuse_jax.prompts import register_tag, task_prompt
from ditfuse_jax.sweep import SWEEPS, Sweep
from ditfuse_jax.tasks import TASKS, Example
from ditfuse_jax.train.writers import WRITERS


register_tag("FUSION", "NAME".upper())


@DEGRADATIONS.register("NAME_invert")
def invert(block, rng):
    return 255 - block, {}


@SOURCES.register("NAME_flat")
class Flat:
    """Two flat images of the grey level in the argument."""

    num_images = 1

    def __init__(self, argument):
        self.level, self.names = int(argument), ["0", "1"]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return (np.full((32, 32, 3), self.level, np.uint8),)

    def size(self, index):
        return 32, 32


@TASKS.register("NAME_task")
@dataclasses.dataclass(frozen=True)
class Invert:
    """Both views are inverted; they must have the grey level `expected`."""

    expected: int = -1
    num_images: int = dataclasses.field(default=1, init=False)

    def __call__(self, images, rng, crop):
        (clean,) = images
        config = M3Config(degradations={"NAME_invert": 1}, overlap_fraction=1)
        views = degrade_views(clean, rng, config)
        assert (views.view_a == self.expected).all()
        prompt = task_prompt("FUSION", "NAME".upper(), "Fuse.")
        return Example((views.view_a, views.view_b), prompt, clean)


@HEADS.register("NAME_head")
class MyHead(LinearHead):
    pass


@SOLVERS.register("NAME_solver")
def black(velocity, x, times):
    """Black images, whatever the model says."""
    return euler(velocity, x, times) * 0 - 1


@register_metric("NAME_metric", "mean of the fused image", needs="fused")
def mean(images):
    return jnp.mean(images.fused_rgb, axis=(1, 2, 3))


@WRITERS.register("NAME_writer")
class StepsWriter:
    def __init__(self, run, config):
        self.file = Path(run.path) / "NAME_steps.txt"

    def write(self, step, scalars):
        with self.file.open("a") as file:
            file.write(f"{step} {'loss' in scalars}\\n")

    def close(self):
        pass


@SWEEPS.register("NAME_sweep")
def sweep(arg=""):
    """A sweep of one setting."""
    return Sweep({"one": ("--config.model.head=NAME_head",)}, recipe="nano_m3", seeds=(0,))
'''

TINY = (
    "--config.model.hidden_size=32",
    "--config.model.num_layers=1",
    "--config.model.num_heads=4",
    "--config.model.num_kv_heads=4",
    "--config.model.intermediate_size=64",
    "--config.model.text_slots=(40, 16, 64)",
    "--config.data.crop=(32, 32)",
    "--config.data.batch_size=2",
    "--config.data.workers=1",
    "--config.train.steps=2",
    "--config.train.log_every=1",
    "--config.evaluations.held_out.count=1",
    "--config.sample.steps=1",
)


def overrides(prefix: str, source: str) -> list[str]:
    return [
        *TINY,
        f"--config.data.mixture.photos.source={prefix}_flat:40",
        f"--config.data.mixture.photos.task={prefix}_task:expected=215",
        f"--config.evaluations.held_out.source={source}",
        f"--config.train.writers=('jsonl', '{prefix}_writer')",
    ]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_image(folder / "0.png", np.full((32, 32, 3), 90, np.uint8))
    return folder


@pytest.fixture(scope="module")
def ditfuse(tmp_path_factory):
    """Runs the command in a process, in a folder outside the package; returns what it prints."""
    folder = tmp_path_factory.mktemp("current")

    def run(*arguments: object, path: Path | None = None) -> str:
        root = str(Path(__file__).parents[1])
        paths = [*([str(path)] if path else []), root, os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "-m", "ditfuse_jax", *map(str, arguments)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.folder = folder  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def run(ditfuse, photos) -> Path:
    """A run that was trained with the extension's task, degradation, source, head and writer."""
    folder = ditfuse.folder
    (folder / "my_extension.py").write_text(EXTENSION.replace("NAME", "mine"))
    arguments = [*overrides("mine", str(photos)), "--config.model.head=mine_head"]
    ditfuse(
        *("train", "--config", "nano_m3", "--workdir", folder / "run"),
        *("--import", "my_extension.py", *arguments),
    )
    return folder / "run"


def test_a_training_with_a_worker_uses_task_degradation_source_head_and_writer(run):
    assert (run / "mine_steps.txt").read_text().splitlines()[:2] == ["1 True", "2 True"]
    config = json.loads((run / "config.json").read_text())
    assert config["imports"] == [str(run.parent / "my_extension.py")]
    assert config["model"]["head"] == "mine_head"


def test_fusing_with_the_run_uses_the_solver(ditfuse, run, photos, tmp_path):
    image = photos / "0.png"
    ditfuse(
        "fuse",
        image,
        image,
        "--checkpoint",
        run,
        "--solver",
        "mine_solver",
        "-o",
        tmp_path / "x.png",
    )
    assert (read_image(tmp_path / "x.png") == 0).all()


def test_evaluating_the_run_uses_the_metric(ditfuse, run, photos, tmp_path):
    ditfuse(
        *(
            "evaluate",
            "--checkpoint",
            run,
            "--data",
            photos,
            "--count",
            1,
            "--solver",
            "mine_solver",
        ),
        *(
            "--metrics",
            "mine_metric",
            "-o",
            tmp_path / "report",
            "--json",
            tmp_path / "scores.json",
        ),
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["summary"]["mine_metric"]["mean"] == 0  # of the solver's black image


def test_a_sweep_passes_its_extensions_to_its_trainings(ditfuse, run, photos, tmp_path):
    arguments = ["mine_sweep", "--workdir", tmp_path, *overrides("mine", str(photos)), "--dry-run"]
    output = ditfuse("sweep", "--import", "my_extension.py", *arguments)
    assert f"--import={run.parent / 'my_extension.py'}" in output


@pytest.mark.slow
def test_an_installed_package_extends_sweeps_and_their_trainings_by_its_entry_point(
    ditfuse, photos, tmp_path
):
    packages = tmp_path / "packages"
    info = packages / "my_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ditfuse_jax.extensions]\nall = my_plugin\n")
    (packages / "my_plugin.py").write_text(EXTENSION.replace("NAME", "yours"))
    out = tmp_path / "sweep"
    ditfuse(
        "sweep", "yours_sweep", "--workdir", out, *overrides("yours", str(photos)), path=packages
    )
    (config,) = out.glob("runs/*/config.json")
    assert json.loads(config.read_text())["model"]["head"] == "yours_head"
    assert (config.parent / "yours_steps.txt").is_file()
    assert "one" in (out / "table.csv").read_text()
