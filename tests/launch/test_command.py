"""`python -m launch`: what it shows, which programs it calls, and how it reports bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.__main__ import main

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "launch" / "examples"

# Example, target and actions that are valid for it.
USES = [
    ("h100", "slurm", ("run", "status", "profile", "stop")),
    ("h100", "jobset", ("run", "status", "profile", "stop")),
    ("nano", "slurm", ("run", "status", "profile", "stop")),
    ("sweep", "slurm", ("run", "status", "profile", "stop")),
    ("sweep", "jobset", ("run", "status", "profile", "stop")),
    ("v6e_first", "jobset", ("run", "status", "profile", "stop")),
    ("v6e_first", "tpu_vm", ("create", "run", "status", "profile", "stop", "delete")),
    ("v6e_256", "jobset", ("run", "status", "profile", "stop")),
    ("v6e_256", "tpu_vm", ("create", "run", "status", "profile", "stop", "delete")),
    ("v6e_256_x2", "jobset", ("run", "status", "profile", "stop")),
    ("v6e_256_x2", "tpu_vm", ("create", "run", "status", "profile", "stop", "delete")),
    ("pack", "slurm", ("run", "status", "stop")),
    ("pack", "jobset", ("run", "status", "stop")),
]


def description(folder: Path, text: str) -> str:
    path = folder / "description.py"
    path.write_text("from launch import *\n" + text)
    return str(path)


def job(fields: str) -> str:
    return f"def get_job():\n    return JobSpec(name='x', config='c', workdir='w', {fields})\n"


def task(fields: str) -> str:
    return f"def get_job():\n    return JobSpec(name='x', command=('prepare', 's'), {fields})\n"


@pytest.mark.parametrize(("example", "target", "actions"), USES)
def test_examples_are_shown_for_their_targets_and_nothing_is_called(
    example, target, actions, fakes, capsys
):
    for program in ("sbatch", "squeue", "scancel", "kubectl", "gcloud"):
        fakes.add(program)
    for action in actions:
        assert main([target, str(EXAMPLES / f"{example}.py"), action, "--dry-run"]) == 0
        assert capsys.readouterr().out.strip()
    assert not fakes.log.exists()


def test_every_example_is_tested():
    assert {use[0] for use in USES} == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.processes
def test_what_is_shown_is_what_is_submitted(fakes, capsys):
    seen = fakes.folder / "document"
    read = f"open({str(seen)!r}, 'w').write(sys.stdin.read())"
    for target, program in ("slurm", "sbatch"), ("jobset", "kubectl"):
        fakes.add(program, read)
        arguments = [target, str(EXAMPLES / "h100.py")]
        assert main(arguments) == 0
        assert main([*arguments, "--dry-run"]) == 0
        assert seen.read_text() == capsys.readouterr().out
    assert fakes.calls("sbatch") == [[]]
    assert fakes.calls("kubectl") == [["create", "--filename=-"]]


@pytest.mark.processes
def test_shown_commands_make_the_same_calls_when_bash_runs_them(fakes, capsys):
    fakes.add("gcloud")
    arguments = ["tpu_vm", str(EXAMPLES / "v6e_256_x2.py"), "status"]
    assert main(arguments) == 0
    called = fakes.calls("gcloud")
    assert len(called) == 2
    capsys.readouterr()
    main([*arguments, "--dry-run"])
    subprocess.run(["/bin/bash", "-c", capsys.readouterr().out], check=True)
    assert fakes.calls("gcloud") == called * 2


@pytest.mark.parametrize(
    ("target", "example", "shown"),
    [
        ("slurm", "h100", "scancel --me --name=omnigen-h100 --signal=USR1"),
        ("jobset", "v6e_256", "kubectl exec job/omnigen-v6e-node-0 -- sh -c 'kill -USR1 1'"),
        (
            "tpu_vm",
            "v6e_256_x2",
            "gcloud compute tpus tpu-vm ssh omnigen-v6e-x2-0 --worker=0 "
            "'--command=sudo docker kill --signal=USR1 omnigen-v6e-x2' --zone=europe-west4-a",
        ),
    ],
)
def test_one_process_of_a_training_is_asked_for_a_profile(target, example, shown, capsys):
    assert main([target, str(EXAMPLES / f"{example}.py"), "profile", "--dry-run"]) == 0
    assert capsys.readouterr().out == shown + "\n"


def test_the_tasks_of_a_command_take_no_profile(capsys):
    for target in ("slurm", "jobset"):
        assert main([target, str(EXAMPLES / "pack.py"), "profile", "--dry-run"]) == 2
        assert "not for the tasks of a command" in capsys.readouterr().err


@pytest.mark.processes
def test_the_exit_code_is_that_of_a_failing_program(fakes):
    fakes.add("gcloud", "sys.exit(7)")
    assert main(["tpu_vm", str(EXAMPLES / "v6e_256_x2.py"), "stop"]) == 7
    assert len(fakes.calls("gcloud")) == 1


@pytest.mark.parametrize(
    ("target", "example", "program"),
    [("slurm", "h100", "sbatch"), ("jobset", "h100", "kubectl"), ("tpu_vm", "v6e_256", "gcloud")],
)
def test_a_missing_program_is_named(target, example, program, fakes, capsys):
    assert main([target, str(EXAMPLES / f"{example}.py")]) == 2
    assert f"{program} is not on the PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "text", "message"),
    [
        ("slurm", job("hardware=Gpu('h200', 0), repo='r'"), "nodes is 0"),
        ("slurm", job("hardware=Gpu('l5'), repo='r'"), "GPU 'l5' is unknown"),
        ("slurm", job("hardware=Gpu('h200')"), "slurm needs repo"),
        ("slurm", job("hardware=Tpu('v5e', '4x4'), repo='r'"), "TPUs are for jobset and tpu_vm"),
        ("slurm", job("hardware=8, repo='r'"), "must be a Tpu, Gpu or Cpu"),
        (
            "slurm",
            job("hardware=Cpu(), repo='r', slurm=Slurm(process_per_gpu=True)"),
            "needs GPUs, but the hardware is Cpu",
        ),
        (
            "slurm",
            job("hardware=Cpu(), repo='r', slurm=Slurm(directives=('partition=x',))"),
            "starts with '--'",
        ),
        ("slurm", job("hardware=Cpu(), overrides=('--steps=3',)"), "starts with '--config.'"),
        ("slurm", job("hardware=Cpu(), overrides='--config.a=1'"), "tuple of strings"),
        ("slurm", job("hardware=Cpu(), env={'A-B': '1'}"), "env 'A-B'"),
        ("slurm", job("hardware=Cpu(), env={'A': 1}"), "a variable's name to a string"),
        ("slurm", job("hardware=Cpu(), colour='red'"), "unexpected keyword argument 'colour'"),
        ("slurm", job("hardware=Cpu()").replace("'x'", "'My Run'"), "name 'My Run'"),
        ("slurm", job("hardware=Cpu()").replace("'w'", "''"), "workdir is empty"),
        ("slurm", job("hardware=Cpu(), tasks=3"), "tasks are those of a command"),
        ("slurm", job("hardware=Cpu(), command=('prepare',), tasks=3"), "command replaces a"),
        ("slurm", task("hardware=Cpu(), tasks=0"), "tasks is 0"),
        ("slurm", task("hardware=Tpu('v5e', '4x4'), tasks=2"), "not on TPUs"),
        ("slurm", task("hardware=Cpu(), tasks=2"), "slurm needs repo"),
        ("slurm", task("hardware=Cpu(), tasks=2, image='i'"), "the output '' would be lost"),
        ("jobset", task("hardware=Cpu(), tasks=2"), "jobset needs image"),
        ("slurm", "get_job = None\n", "TypeError"),
        ("slurm", "def get_job():\n    return 3\n", "returns int"),
        ("slurm", "", "get_job"),
        ("slurm", "def get_job(:\n", "SyntaxError"),
        ("slurm", job("hardware=Cpu(), image='i'"), "would be lost with the container"),
        (
            "slurm",
            job("hardware=Cpu(), repo='r'").replace("'w'", "'az://b/r'"),
            "cannot write to az://",
        ),
        (
            "slurm",
            job("hardware=Cpu(), repo='r'").replace("'w'", "'hf://a/b'"),
            "cannot write to hf://",
        ),
        ("slurm", job("hardware=Cpu(), repo='r'").replace("'w'", "'s3://b/r'"), "write to s3://"),
        (
            "slurm",
            job("hardware=Cpu(), repo='r'").replace("'w'", "'gs://'"),
            "cannot write to gs://",
        ),
        ("slurm", job("hardware=Cpu(), staged={'data': 'gs://b/d'}"), "staged 'data'"),
        ("slurm", job("hardware=Cpu(), staged={'/data': '/d'}"), "gs:// or s3://"),
        ("slurm", job("hardware=Cpu(), slurm=Slurm(mounts={'data': '/d'})"), "slurm.mounts 'data'"),
        ("jobset", job("hardware=Cpu(), kubernetes=Kubernetes(secrets='s')"), "tuple of strings"),
        ("jobset", job("hardware=Gpu('h200'), image='i'"), "mount one with kubernetes.claims"),
        (
            "jobset",
            job("hardware=Cpu(), image='i', kubernetes=Kubernetes(claims={'/a': 'c'})").replace(
                "'w'", "'/ab/run'"
            ),
            "would be lost with the container",
        ),
        ("jobset", job("hardware=Gpu('h200')"), "jobset needs image"),
        ("jobset", job("hardware=Tpu('v5e', '5x5'), image='i'"), "topology '5x5'"),
        ("jobset", job("hardware=Tpu('v5e', '2x2', 2), image='i'"), "one host each"),
        (
            "jobset",
            job("hardware=Cpu(), image='i', kubernetes=Kubernetes(claims={'data': 'c'})"),
            "absolute folder",
        ),
        ("tpu_vm", job("hardware=Tpu('v5e', '4x4'), image='i'"), "needs tpu_vm.zone"),
        (
            "tpu_vm",
            job("hardware=Tpu('v5e', '4x4'), image='i', tpu_vm=TpuVm(zone='z')"),
            "mount one with tpu_vm.folders",
        ),
        (
            "tpu_vm",
            job("hardware=Tpu('v7x', '2x2x2'), image='i', tpu_vm=TpuVm(zone='z')"),
            "v7x is not available as TPU VMs",
        ),
        (
            "tpu_vm",
            job("hardware=Gpu('h100'), image='i', tpu_vm=TpuVm(zone='z')"),
            "tpu_vm starts TPUs",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(target, text, message, tmp_path, capsys):
    assert main([target, description(tmp_path, text), "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out


@pytest.mark.parametrize(
    "arguments",
    [["slurm", "nowhere.py"], ["slurm"], ["lsf", "x.py"], ["slurm", "x.py", "delete"], []],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(arguments, capsys):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.processes
def test_it_runs_without_the_package_it_launches(tmp_path):
    """A login node has Python, jinja2 and PyYAML; JAX may be missing."""
    code = (
        "import sys\n"
        "sys.modules['ditfuse_jax'] = sys.modules['jax'] = sys.modules['numpy'] = None\n"
        "from launch.__main__ import main\n"
        f"sys.exit(main(['jobset', {str(EXAMPLES / 'h100.py')!r}, '--dry-run']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert yaml.safe_load(done.stdout)["kind"] == "JobSet"
    assert json.dumps(yaml.safe_load(done.stdout))  # plain values only
