"""Submission to clusters: every training that is not done, with its arguments unchanged."""

import json
import re
import subprocess

import pytest
import yaml

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import PRESETS
from ditfuse_jax.sweep.cluster import render, submit

DESCRIPTION = """
from launch import Gpu, JobSpec, Kubernetes
def get_job():
    return JobSpec(
        name="sweep", hardware=Gpu("h100"), config="replaced", workdir="/replaced",
        overrides=("--config.replaced=1",), repo={repo!r}, image="image:cuda", max_restarts=2,
        kubernetes=Kubernetes(claims={{{folder!r}: "shared"}}),
    )
"""
NO_PROGRAM = DESCRIPTION.format(repo="", folder="/shared").replace("image:cuda", "")
# Arguments that a careless script would break.
NASTY = "--config.data.tokenizer=a 'b' \"c\" $HOME $(id) `id` \\ ; & | (x)"
SETTINGS = {"plain": (), "nasty": (NASTY, "--config.data.crop=(64, 64)")}


@pytest.fixture
def description(tmp_path, python_program):
    """A job on one node, whose Python records its arguments."""
    python = tmp_path / "repo" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    record = (
        f"import json, sys; open({str(tmp_path / 'words')!r}, 'a').write(json.dumps(sys.argv[1:]))"
    )
    python_program(python, record + "; sys.exit(int(open('code').read()))")
    path = tmp_path / "job.py"
    path.write_text(DESCRIPTION.format(repo=str(tmp_path / "repo"), folder=str(tmp_path)))
    return path


def finish(training) -> None:
    """Writes the files of a finished training."""
    (training.folder / "checkpoints" / str(training.steps)).mkdir(parents=True)
    line = {"step": training.steps, "eval/quality": 1.0}
    (training.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def document(plan, target, description) -> str:
    (call,) = render(plan, target, description)
    return call.document


def run_task(script: str, task: int, folder, code: int = 0) -> tuple[int, list, list]:
    """Runs a task of an array as SLURM would.

    Returns:
      The exit code, the program's arguments and those of scontrol.
    """
    (folder / "bin").mkdir(exist_ok=True)
    srun = 'while [ "${1:0:2}" = -- ]; do shift; done; exec "$@"'
    for name, body in {"srun": srun, "scontrol": f'echo "$@" > "{folder}/requeued"'}.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    for name in ("words", "requeued"):
        (folder / name).unlink(missing_ok=True)
    (folder / "code").write_text(str(code))
    numbers = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "70", "SLURM_JOB_ID": "71"}
    done = subprocess.run(
        ["/bin/bash"],
        input=script,
        text=True,
        cwd=folder,
        env={"PATH": f"{folder}/bin:/bin:/usr/bin", **numbers},
        capture_output=True,
        check=False,
    )
    assert not done.stderr
    requeued = folder / "requeued"
    words = json.loads((folder / "words").read_text())
    return done.returncode, words, requeued.read_text().split() if requeued.exists() else []


@pytest.mark.processes
def test_each_task_of_the_array_is_a_training_with_its_own_arguments(plan, description, tmp_path):
    made = plan(SETTINGS)
    script = document(made, "slurm", description)
    assert "#SBATCH --job-name=sweep\n" in script and "#SBATCH --array=0-3\n" in script
    before_commands = script.partition("\ncase")[0]
    assert before_commands.count("#SBATCH") == script.count("#SBATCH")
    assert "replaced" not in script
    for number, training in enumerate(made.trainings):
        code, words, _ = run_task(script, number, tmp_path)
        assert code == 0
        assert words == ["-m", "ditfuse_jax", *training.command]


@pytest.mark.processes
def test_only_a_stopped_task_is_requeued(plan, description, tmp_path):
    script = document(plan(SETTINGS), "slurm", description)
    code, _, requeued = run_task(script, 2, tmp_path, code=143)
    assert code == 143 and requeued == ["requeue", "70_2"]
    code, _, requeued = run_task(script, 2, tmp_path, code=1)
    assert code == 1 and not requeued


def test_each_training_is_a_separate_jobset(plan, description):
    made = plan(SETTINGS)
    sets = list(yaml.safe_load_all(document(made, "jobset", description)))
    names = [one["metadata"]["name"] for one in sets]
    assert all(re.fullmatch(rf"sweep-[0-9a-f]{{4}}-{n}", name) for n, name in enumerate(names))
    assert len(names) == 4
    for one, training in zip(sets, made.trainings, strict=True):
        (part,) = one["spec"]["replicatedJobs"]
        (container,) = part["template"]["spec"]["template"]["spec"]["containers"]
        assert [word.replace("$$", "$") for word in container["args"]] == list(training.command)


def test_the_jobsets_of_two_sweeps_have_different_names(plan, description, tmp_path):
    made = [plan(folder=tmp_path / name) for name in ("one", "other", "one")]
    names = [
        [one["metadata"]["name"] for one in yaml.safe_load_all(document(m, "jobset", description))]
        for m in made
    ]
    assert names[0] == names[2] and not set(names[0]) & set(names[1])


def test_a_job_loads_the_extensions_before_its_recipe(plan, description, tmp_path, monkeypatch):
    extension = tmp_path / "extension_of_jobs.py"
    extension.write_text(
        "import dataclasses\n"
        "from ditfuse_jax.model import PRESETS\n"
        "@PRESETS.register('of_jobs')\n"
        "def of_jobs():\n"
        "    return dataclasses.replace(PRESETS['nano'](), preset='of_jobs')\n"
    )
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from ditfuse_jax.train.recipe import default_config, load_recipe\n"
        "def get_config():\n"
        "    config = load_recipe('nano_m3').unlock()\n"
        "    config.model = default_config('of_jobs').model\n"
        "    return config\n"
    )
    monkeypatch.setattr(PRESETS, "_entries", {**PRESETS})
    monkeypatch.chdir(tmp_path)
    made = plan({"a": ()}, recipe=str(recipe), seeds=(0,), imports=(extension.name,))
    (one,) = yaml.safe_load_all(document(made, "jobset", description))
    (part,) = one["spec"]["replicatedJobs"]
    (container,) = part["template"]["spec"]["template"]["spec"]["containers"]
    assert f"--import={extension}" in container["args"]
    assert container["args"] == list(made.trainings[0].command)


def test_finished_trainings_are_omitted_and_the_others_keep_their_names(plan, description):
    made = plan(SETTINGS)
    finish(made.trainings[0])
    sets = list(yaml.safe_load_all(document(made, "jobset", description)))
    assert [one["metadata"]["name"][-2:] for one in sets] == ["-1", "-2", "-3"]
    script = document(made, "slurm", description)
    assert "--array=0-2" in script and str(made.trainings[0].folder) not in script
    for training in made.trainings[1:]:
        finish(training)
    with pytest.raises(UserError, match="are done: run the sweep without --slurm"):
        render(made, "slurm", description)


def test_a_sweep_that_trains_nothing_cannot_be_submitted(plan, description):
    made = plan({"a": ()}, recipe="", overrides=(), checkpoint="m", evaluate=("--data", "x"))
    with pytest.raises(UserError, match="the sweep trains nothing: run it on this"):
        render(made, "slurm", description)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "get_job"), (NO_PROGRAM, "slurm needs repo"), (None, "no such file")],
)
def test_a_wrong_description_is_reported_in_one_line(plan, tmp_path, text, message):
    path = tmp_path / "wrong.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        submit(plan(SETTINGS), "slurm", path, dry_run=True)
    assert "\n" not in str(caught.value)


def test_a_missing_sbatch_is_reported(plan, description, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch is not on the PATH"):
        submit(plan(SETTINGS), "slurm", description, dry_run=False)
