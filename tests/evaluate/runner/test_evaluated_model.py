"""Opening a model that is evaluated."""

import types

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner import evaluated_model
from ditfuse_jax.flow import SamplingConfig


def test_a_folder_or_file_that_cannot_be_written_is_refused_before_the_model_is_loaded(
    tmp_path, monkeypatch
):
    opened = types.SimpleNamespace(kind="run", path=tmp_path)
    monkeypatch.setattr(evaluated_model, "open_checkpoint", lambda *_, **__: opened)
    monkeypatch.setattr(evaluated_model, "load_checkpoint", None)  # never called
    (tmp_path / "file").write_text("x")
    (tmp_path / "control.json").mkdir()
    for output, message in (
        (tmp_path / "file", "file: the folder cannot be created"),
        (None, r"control\.json is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            evaluated_model.open_model(
                tmp_path, output, None, (), None, files=("control.json", "control.png"), tasks=[]
            )


def test_refine_is_refused_where_no_task_is_refined():
    trained = types.SimpleNamespace(sampling=SamplingConfig())
    given = {"refine": True, "seed": 3}
    for tasks in ([], ["ivif"], ["fuse", "ivif"]):
        with pytest.raises(UserError, match=r"^refine has no effect: .* leave it out$"):
            evaluated_model.sampled(trained, given, tasks)
    for tasks in (["mff"], ["ivif", "mef"]):
        assert evaluated_model.sampled(trained, given, tasks).seed == 3
    assert evaluated_model.sampled(trained, {"refine": False}, ["ivif"]).refine is False
