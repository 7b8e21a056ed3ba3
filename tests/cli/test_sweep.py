"""`ditfuse sweep`, with real trainings."""

import csv

import pytest

from ditfuse_jax.cli import main

pytestmark = pytest.mark.medium


@pytest.fixture
def sweep_file(tmp_path):
    """Writes a sweep file and returns its path."""

    def write(arguments: str):
        path = tmp_path / "mine.py"
        path.write_text(
            '"""A small sweep."""\nfrom ditfuse_jax.sweep import Sweep\n'
            f"def get_sweep(arg=''):\n    return Sweep({arguments})\n"
        )
        return str(path)

    return write


@pytest.mark.processes
@pytest.mark.slow
def test_a_sweep_is_trained_and_reported_and_not_trained_again(
    sweep_file, tiny_overrides, tmp_path, capsys
):
    bad = "--config.data.mixture.photos.source=nowhere"
    file = sweep_file(f"{{'good': (), 'bad': ({bad!r},)}}, recipe='nano_m3', seeds=(0,)")
    command = ["sweep", file, "--workdir", str(tmp_path / "out"), *tiny_overrides]
    assert main(command) == 1
    output = capsys.readouterr().out
    assert "failed: bad, seed 0: ditfuse train: error: data source 'nowhere'" in output
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "A small sweep" in page
    rows = {row["setting"]: row for row in csv.DictReader((tmp_path / "out/table.csv").open())}
    (score, *_) = [name for name in rows["good"] if name.endswith("_mean")]
    assert float(rows["good"][score]) > 5 and rows["bad"][score] == ""  # PSNR in dB
    assert main([*command, "--dry-run"]) == 0
    (left,) = capsys.readouterr().out.splitlines()
    assert "bad-seed0" in left


@pytest.mark.processes
@pytest.mark.slow
def test_a_sweep_of_sampling_settings_trains_nothing(sweep_file, checkpoint, stacks, tmp_path):
    settings = "{f'{n} steps': (f'--config.sample.steps={n}',) for n in (1, 3)}"
    data = f"('--data', {str(stacks)!r}, '--count', '1')"
    changes = f"checkpoint={str(checkpoint)!r}, evaluate={data}, seeds=(0,)"
    file = sweep_file(f"{settings}, {changes}")
    assert main(["sweep", file, "--workdir", str(tmp_path / "out"), "-n", "2"]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert [row["setting"] for row in rows] == ["1 steps", "3 steps"]
    (score, *_) = [name for name in rows[0] if name.endswith("_mean")]
    assert all(float(row[score]) > 0 for row in rows)
    assert not (tmp_path / "out" / "runs").exists()


def test_a_dry_run_shows_the_commands_and_leaves_nothing(tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["sweep", "noise_draws", "--workdir", str(folder), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(" train --config nano_m3 " in line for line in lines)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nosuch"], "sweep 'nosuch' is unknown; choose from block_size"),
        (["noise_draws", "--config.train.stpes=3"], "K = 1, seed 0: cannot apply"),
        (["noise_draws", "--count", "3"], "overrides: '--count' is not an override"),
        (["noise_draws", "-n", "-1"], "must be at least 0"),
        (["noise_draws", "--slurm", "no.py", "--dry-run"], "no.py: no such file"),
        (["noise_draws", "--slurm", "a", "--jobset", "b"], "not allowed with argument"),
    ],
)
def test_bad_input_is_reported_in_one_line(refused, tmp_path, options, message):
    assert message in refused("sweep", *options, "--workdir", tmp_path / "out")
    assert not (tmp_path / "out").exists()
