"""The benchmark of whole processes."""

import pytest

from ditfuse_jax.bench import bench
from ditfuse_jax.bench.start import _run
from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError


@pytest.mark.slow
@pytest.mark.processes
def test_later_processes_find_the_programs_of_the_first(capsys, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # optimised, as for users
    result = bench("start", "nano_m3", repeats=1)
    # Compiling takes several times the processor time of everything else.
    assert result["cpu_seconds"] < 0.8 * result["first_cpu_seconds"]
    assert 100 < result["memory_mb"] < 2000
    assert "first_memory_mb" in capsys.readouterr().out


@pytest.mark.processes
def test_a_command_that_fails_ends_the_benchmark_with_its_last_line(tmp_path):
    with pytest.raises(UserError, match="failed: SystemExit: no camera"):
        _run(["-c", "raise SystemExit('SystemExit: no camera')"], tmp_path)


@pytest.mark.parametrize("option", ["--config=small", "--config.data.batch_size=2"])
def test_a_recipe_is_refused_as_it_would_have_no_effect(option, capsys):
    assert main(["bench", "start", option]) == 2
    name = option.partition("=")[0]
    assert f"{name} has no effect with start" in capsys.readouterr().err
