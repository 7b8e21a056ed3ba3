"""Several tasks pack one folder: the bytes are those of one machine, whoever is killed."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import prepare as module
from ditfuse_jax.pipeline.packer import FilePacker
from ditfuse_jax.pipeline.prepare import PackingTask, prepare, prepare_task
from ditfuse_jax.pipeline.submit import INDEX_VARIABLES

ROOT = Path(__file__).parents[2]
PACKER = FilePacker()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven photographs, one of which is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for k in range(11):
        size = (20 + k % 3, 30, 3)
        write_image(folder / f"{k:02}.png", random.integers(0, 256, size, dtype=np.uint8))
    (folder / "06.png").write_bytes(b"not an image")
    return folder


@pytest.fixture
def whole(photos, tmp_path):
    """The files that one machine packs: six shards."""
    prepare(str(photos), tmp_path / "one", shard_size=2, max_bad_fraction=0.1, quiet=True)
    return contents(tmp_path / "one")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pack(photos, output, index, count, **changes):
    options = {"shard_size": 2, "max_bad_fraction": 0.1, "quiet": True}
    return prepare_task(str(photos), output, PACKER, PackingTask(index, count), **options | changes)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_in_any_order_the_last_task_writes_the_manifest_of_one_machine(
    photos, whole, tmp_path, order
):
    results = [pack(photos, tmp_path / "p", index, 3) for index in order]
    assert [result is None for result in results] == [True, True, False]
    assert contents(tmp_path / "p") == whole


def test_more_tasks_than_shards_leave_some_with_nothing_to_do(photos, whole, tmp_path):
    results = [pack(photos, tmp_path / "p", index, 9) for index in (8, 7, 6, 5, 4, 3, 2, 1, 0)]
    assert [result is None for result in results] == [True] * 8 + [False]
    assert contents(tmp_path / "p") == whole


def test_each_task_packs_only_its_own_shards_and_a_second_run_packs_nothing(
    photos, tmp_path, monkeypatch
):
    packed = []
    record = module.pack_record
    monkeypatch.setattr(module, "pack_record", lambda *a: packed.append(a[0]) or record(*a))
    pack(photos, tmp_path / "p", 1, 3)
    assert packed == ["02", "03", "08", "09"]
    pack(photos, tmp_path / "p", 1, 3)
    assert len(packed) == 4
    assert not (tmp_path / "p" / "manifest.json").exists()


def test_too_many_bad_files_are_an_error_of_the_task_that_met_them_and_of_no_other(
    photos, tmp_path
):
    def pack_strictly(index):
        return pack(photos, tmp_path / "p", index, 3, max_bad_fraction=0.0)

    assert pack_strictly(1) is None
    with pytest.raises(UserError, match=r"1 of 11 records .*first 06"):
        pack_strictly(0)
    assert pack_strictly(2) is None and pack_strictly(1) is None
    assert not (tmp_path / "p" / "manifest.json").exists()


def test_a_task_with_other_options_is_refused(photos, tmp_path):
    pack(photos, tmp_path / "p", 0, 2)
    with pytest.raises(UserError, match="from another source or with other options"):
        pack(photos, tmp_path / "p", 1, 2, shard_size=3)


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_number_outside_the_tasks_is_refused(index, count):
    with pytest.raises(UserError, match=f"task {index} of {count}"):
        PackingTask(index, count)


@pytest.mark.parametrize("variable", INDEX_VARIABLES)
def test_the_cluster_s_variable_numbers_the_task(photos, tmp_path, variable, monkeypatch, capsys):
    for name in INDEX_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    words = ["prepare", str(photos), "-o", str(tmp_path / "p"), "--num-tasks", "2"]
    options = ["--shard-size", "2", "--max-bad", "0.1"]
    assert main([*words, *options]) == 2
    assert "--num-tasks 2 needs --task-index" in capsys.readouterr().err
    monkeypatch.setenv(variable, "1")
    assert main([*words, *options]) == 0
    assert "task 1 of 2 has packed its shards" in capsys.readouterr().out
    assert main([*words, *options, "--task-index", "0"]) == 0
    assert "10 records" in capsys.readouterr().out


SLOW = """
import sys, time
from ditfuse_jax.cli import main
from ditfuse_jax.pipeline import prepare as module
pack = module.pack_record
module.pack_record = lambda *a: (time.sleep(float(sys.argv[1])), pack(*a))[1]
sys.exit(main(["prepare", *sys.argv[2:]]))
"""


@pytest.mark.processes
@pytest.mark.medium
@pytest.mark.slow
def test_three_processes_of_which_one_is_killed_and_run_again_pack_the_bytes_of_one(
    photos, whole, tmp_path
):
    output = tmp_path / "p"

    def start(index, pause):
        words = [str(photos), "-o", str(output), "--shard-size", "2", "--max-bad", "0.1"]
        environment = os.environ | {"SLURM_ARRAY_TASK_ID": str(index)}
        return subprocess.Popen(
            [sys.executable, "-c", SLOW, str(pause), *words, "--num-tasks", "3"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    # Shards 1 and 4 are the killed task's: it has packed the first, and is in the second.
    killed, others = start(1, 0.6), [start(0, 0.0), start(2, 0.0)]
    while not (output / ".shard-00001.arrayrecord.json").exists():
        assert killed.poll() is None
        time.sleep(0.02)
    time.sleep(0.2)
    killed.kill()
    killed.wait()
    for process in others:
        assert "other tasks have shards left" in process.communicate()[0]
        assert process.returncode == 0
    assert not (output / "shard-00004.arrayrecord").exists()
    assert not (output / "manifest.json").exists()
    again = start(1, 0.0)
    assert "10 records" in again.communicate()[0]
    left = {name: data for name, data in contents(output).items() if not name.endswith(".tmp")}
    assert left == whole


class TestSubmission:
    """The tasks are a SLURM array or an Indexed Job."""

    @pytest.fixture
    def words(self, photos, tmp_path):
        description = tmp_path / "job.py"
        description.write_text(
            "from launch import Cpu, JobSpec, Kubernetes, Slurm\n"
            "def get_job():\n"
            "    return JobSpec(name='pack', hardware=Cpu(3), config='c', workdir='w',\n"
            f"        repo={str(tmp_path / 'repo')!r}, image='image:cpu', max_restarts=2,\n"
            f"        kubernetes=Kubernetes(claims={{{str(tmp_path)!r}: 'shared'}}))\n"
        )
        output = str(tmp_path / "it's $HOME")
        options = ["--processes", "4", "--max-side", "64", "--resize", "--dry-run"]
        return ["prepare", str(photos), "-o", output, *options, "--num-tasks", "5"], description

    @pytest.mark.processes
    def test_an_array_has_a_task_for_each_part(self, words, tmp_path, python_program, capsys):
        command, description = words
        assert main([*command, "--slurm", str(description)]) == 0
        script = capsys.readouterr().out
        assert "#SBATCH --array=0-4\n" in script and "#SBATCH --nodes=1\n" in script
        assert '"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"' in script
        python = tmp_path / "repo" / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        seen = tmp_path / "words"
        python_program(
            python, f"import json, sys; open({str(seen)!r}, 'w').write(json.dumps(sys.argv[1:]))"
        )
        (tmp_path / "bin").mkdir()
        srun = tmp_path / "bin" / "srun"
        srun.write_text('#!/bin/bash\nwhile [ "${1:0:2}" = -- ]; do shift; done; exec "$@"\n')
        srun.chmod(0o755)
        done = subprocess.run(
            ["/bin/bash"],
            input=script,
            text=True,
            env={"PATH": f"{tmp_path / 'bin'}:/bin:/usr/bin", "SLURM_ARRAY_TASK_ID": "3"},
            check=False,
        )
        assert done.returncode == 0
        self.check_arguments(json.loads(seen.read_text())[2:], command)

    def test_an_indexed_job_has_a_pod_for_each_part(self, words, capsys):
        command, description = words
        assert main([*command, "--jobset", str(description)]) == 0
        job = yaml.safe_load(capsys.readouterr().out)
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        spec = job["spec"]
        assert spec["completionMode"] == "Indexed"
        assert (spec["completions"], spec["backoffLimitPerIndex"]) == (5, 2)
        (container,) = spec["template"]["spec"]["containers"]
        assert "JAX_NUM_PROCESSES" not in {entry["name"] for entry in container["env"]}
        self.check_arguments([word.replace("$$", "$") for word in container["args"]], command)

    def check_arguments(self, arguments, command):
        """The submitted words, as `ditfuse` reads them, are those of the command."""
        assert arguments[:2] == command[:2]
        assert command[3] in arguments
        assert {"--processes=4", "--max-side=64", "--resize", "--num-tasks=5"} < set(arguments)
        assert not {"--dry-run", "--crop", "--autoencoder"} & set(arguments)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ([], "give --num-tasks N and either --slurm JOB or --jobset JOB"),
            (["--slurm", "nowhere.py"], "nowhere.py: no such file"),
            (["--slurm", "a.py", "--jobset", "b.py"], "either --slurm JOB or --jobset JOB"),
            (["--slurm", "a.py", "--task-index", "1"], "the cluster numbers those it starts"),
        ],
    )
    def test_wrong_options_are_one_line(self, words, change, message, capsys):
        assert main([*words[0], *change]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
