"""Which commands several processes share."""

from ditfuse_jax.cli import main


def test_a_training_joins_others_and_what_runs_beside_it_does_not(monkeypatch, tmp_path, capsys):
    # The address alone is incomplete: who tries to join says so.
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", "--config", "nano_m3", "--workdir", str(tmp_path / "run")]) == 2
    assert "JAX_NUM_PROCESSES" in capsys.readouterr().err
    assert main(["prepare", "--verify", str(tmp_path / "nothing")]) == 2
    told = capsys.readouterr().err
    assert "JAX_NUM_PROCESSES" not in told
    assert "nothing" in told
