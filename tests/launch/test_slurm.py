"""The sbatch script: its directives, and what it does when it runs."""

import subprocess

import pytest

from launch import Cpu, Slurm, slurm

# Options of sbatch that the launcher writes (`man sbatch`).
KNOWN = {
    "job-name",
    "nodes",
    "ntasks-per-node",
    "gpus-per-node",
    "cpus-per-task",
    "signal",
    "requeue",
    "open-mode",
    "output",
}

# Runs the command after srun's own options, as srun does in each task.
SRUN = """
command = sys.argv[1:]
while command[0].startswith("--"):
    command.pop(0)
sys.exit(subprocess.run(command).returncode)
"""


def directives(script: str) -> dict[str, str]:
    """Returns the `#SBATCH` options before the first command, which sbatch reads."""
    found = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH "):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            assert name not in found
            found[name] = value
        elif line and not line.startswith("#"):
            break
    return found


@pytest.fixture
def run(fakes, tmp_path):
    """Runs a job's script with fakes of srun and scontrol, and of Python with an exit code."""

    def start(job, code: int = 0, **environment: str) -> int:
        fakes.add("srun", SRUN)
        fakes.add("scontrol")
        fakes.add("python", f"sys.exit({code})", folder=tmp_path / "my repo's" / ".venv" / "bin")
        done = subprocess.run(
            ["/bin/bash"],
            input=slurm.script(job),
            text=True,
            env={"PATH": fakes.path, "SLURM_JOB_ID": "7", **environment},
            capture_output=True,
            check=False,
        )
        assert not done.stderr
        return done.returncode

    return start


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"slurm": Slurm(process_per_gpu=True, cpus_per_process=8)},
        {"hardware": Cpu(3), "slurm": Slurm(directives=("--account=me", "--exclusive"))},
    ],
)
def test_every_directive_is_known_and_before_the_first_command(gpu_job, changes):
    job = gpu_job(**changes)
    script = slurm.script(job)
    assert script.startswith("#!/bin/bash\n")
    found = directives(script)
    assert len(found) == script.count("#SBATCH")
    own = {item.removeprefix("--").partition("=")[0] for item in job.slurm.directives}
    assert set(found) - own <= KNOWN
    assert own <= set(found)
    assert found["nodes"] == str(job.hardware.nodes)
    assert found["signal"] == "TERM@120"
    assert found["open-mode"] == "append"
    assert "requeue" in found


def test_there_is_a_process_per_node_or_per_gpu(gpu_job):
    per_node = directives(slurm.script(gpu_job()))
    per_gpu = directives(slurm.script(gpu_job(slurm=Slurm(process_per_gpu=True))))
    assert (per_node["gpus-per-node"], per_node["ntasks-per-node"]) == ("8", "1")
    assert (per_gpu["gpus-per-node"], per_gpu["ntasks-per-node"]) == ("8", "8")
    assert "gpus-per-node" not in directives(slurm.script(gpu_job(hardware=Cpu())))


@pytest.mark.processes
def test_arguments_and_variables_reach_the_training_unchanged(run, fakes, gpu_job, nasty, tmp_path):
    job = gpu_job(repo=str(tmp_path / "my repo's"), **nasty)
    assert run(job) == 0
    assert fakes.calls("python") == [
        [
            *("-m", "ditfuse_jax", "train", "--config", "small", "--workdir", nasty["workdir"]),
            *nasty["overrides"],
        ]
    ]
    (environment,) = fakes.environments("python")
    assert nasty["env"].items() <= environment.items()


@pytest.mark.processes
def test_lines_of_setup_come_before_the_training(run, fakes, gpu_job, tmp_path):
    setup = ("FROM_SETUP='a b'", "export FROM_SETUP")
    job = gpu_job(repo=str(tmp_path / "my repo's"), slurm=Slurm(setup=setup, cpus_per_process=6))
    run(job)
    (environment,) = fakes.environments("python")
    assert environment["FROM_SETUP"] == "a b"
    assert environment["SRUN_CPUS_PER_TASK"] == "6"


@pytest.mark.processes
def test_a_stopped_training_is_requeued_up_to_the_limit(run, fakes, gpu_job, tmp_path):
    job = gpu_job(repo=str(tmp_path / "my repo's"), max_restarts=2)
    assert run(job, 143) == 143
    assert fakes.calls("scontrol") == [["requeue", "7"]]
    run(job, 143, SLURM_RESTART_COUNT="1")
    assert len(fakes.calls("scontrol")) == 2
    run(job, 143, SLURM_RESTART_COUNT="2")  # the limit
    assert len(fakes.calls("scontrol")) == 2


@pytest.mark.processes
@pytest.mark.parametrize("code", [75, 134])
def test_a_training_that_lost_a_machine_is_requeued(run, fakes, gpu_job, tmp_path, code):
    assert run(gpu_job(repo=str(tmp_path / "my repo's")), code) == code
    assert fakes.calls("scontrol") == [["requeue", "7"]]


@pytest.mark.processes
@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_a_finished_or_failed_training_is_not_requeued(run, fakes, gpu_job, tmp_path, code):
    job = gpu_job(repo=str(tmp_path / "my repo's"))
    assert run(job, code) == code
    assert not fakes.calls("scontrol")


@pytest.mark.processes
def test_other_processes_get_time_to_save_when_one_has_ended(run, fakes, gpu_job, tmp_path):
    run(gpu_job(repo=str(tmp_path / "my repo's"), grace_seconds=300))
    (arguments,) = fakes.calls("srun")
    assert arguments[:2] == ["--kill-on-bad-exit=0", "--wait=300"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("registry.example.com/lab/ditfuse:cuda", "registry.example.com#lab/ditfuse:cuda"),
        ("lab/ditfuse:cuda", "lab/ditfuse:cuda"),
        ("ditfuse", "ditfuse"),
        ("/images/ditfuse.sqsh", "/images/ditfuse.sqsh"),
        ("./ditfuse.sqsh", "./ditfuse.sqsh"),
        ("me@nvcr.io#lab/ditfuse", "me@nvcr.io#lab/ditfuse"),
    ],
)
@pytest.mark.processes
def test_without_a_checkout_the_image_runs_in_a_container(run, fakes, gpu_job, image, name):
    fakes.add("ditfuse")
    assert run(gpu_job(repo="", image=image, workdir="gs://bucket/run")) == 0
    (call,) = fakes.calls("srun")
    assert f"--container-image={name}" in call
    assert "--no-container-mount-home" in call
    (arguments,) = fakes.calls("ditfuse")
    assert arguments == ["train", "--config", "small", "--workdir", "gs://bucket/run"]


@pytest.mark.processes
def test_every_node_copies_the_data_once_before_the_training(run, fakes, gpu_job):
    for program in "ditfuse", "mkdir", "gcloud":
        fakes.add(program)
    fakes.add("bash", "import os; os.execv('/bin/bash', ['bash', *sys.argv[1:]])")
    job = gpu_job(
        repo="",
        workdir="gs://bucket/run",
        staged={"/scratch/my photos": "gs://bucket/photos"},
        slurm=Slurm(process_per_gpu=True, mounts={"/keys": "/etc/keys"}),
    )
    assert run(job) == 0
    copying, training = fakes.calls("srun")
    assert copying[:3] == ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert "--container-mounts=/scratch/my photos:/scratch/my photos,/etc/keys:/keys" in training
    assert fakes.calls("gcloud") == [
        ["storage", "rsync", "--recursive", "gs://bucket/photos", "/scratch/my photos"]
    ]


@pytest.mark.processes
def test_without_its_data_the_training_is_not_started(run, fakes, gpu_job):
    for program in "ditfuse", "mkdir":
        fakes.add(program)
    fakes.add("gcloud", "sys.exit(9)")
    fakes.add("bash", "import os; os.execv('/bin/bash', ['bash', *sys.argv[1:]])")
    job = gpu_job(repo="", workdir="gs://bucket/run", staged={"/scratch": "gs://bucket/gone"})
    assert run(job) == 1
    assert not fakes.calls("ditfuse")
