"""Which commands run as several connected processes."""

from ditfuse_jax.cli import main


def test_only_a_training_connects_to_the_other_processes(monkeypatch, tmp_path, capsys):
    # A command that tries to connect reports that the address alone is incomplete.
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", "--config", "nano_m3", "--workdir", str(tmp_path / "run")]) == 2
    assert "JAX_NUM_PROCESSES" in capsys.readouterr().err
    assert main(["prepare", "--verify", str(tmp_path / "nothing")]) == 2
    message = capsys.readouterr().err
    assert "JAX_NUM_PROCESSES" not in message
    assert "nothing" in message
