"""Folders and commands of a sweep's runs, and what counts as done."""

import json

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.recipe import load_recipe, to_json

SAMPLED = {"few": ("--config.sample.steps=2",), "many": ("--config.sample.steps=8",)}
ON = ("--data", "somewhere")


def test_each_setting_is_trained_with_each_seed_in_a_folder_of_its_own(plan, tmp_path):
    made = plan({"A / b": ("--config.flow.draws=3",), "c": ()}, seeds=(0, 7))
    assert [run.name for run in made.runs] == [
        *("A / b, seed 0", "A / b, seed 7"),
        *("c, seed 0", "c, seed 7"),
    ]
    folders = [training.folder.relative_to(tmp_path / "sweep") for training in made.trainings]
    assert [str(folder) for folder in folders] == [
        *("runs/a-b-seed0", "runs/a-b-seed7", "runs/c-seed0", "runs/c-seed7")
    ]
    config = made.trainings[1].config
    assert (config.flow.draws, config.seed, config.train.steps) == (3, 7, 3)
    assert made.trainings[1].command[:5] == (
        *("train", "--config", "nano_m3", "--workdir"),
        str(tmp_path / "sweep" / "runs" / "a-b-seed7"),
    )


def test_settings_of_sampling_share_a_training_and_are_scored_apart(plan):
    made = plan(SAMPLED | {"other": ("--config.flow.draws=4",)}, evaluate=ON)
    assert len(made.trainings) == 4 and len(made.runs) == 6
    few, many = made.runs[0], made.runs[2]
    assert few.training is many.training
    assert few.scoring[-1] == "--steps=2" and many.scoring[-1] == "--steps=8"
    assert few.scoring[2] == str(few.training.folder)
    assert few.folder != many.folder
    assert not [word for word in few.training.words if "sample" in word]
    assert made.runs[4].scoring[-2:] == ON  # samples as its recipe says


def test_sampling_decides_a_training_of_ones_own_where_the_training_evaluates(plan):
    made = plan({"few": ("--config.sample.steps=2",), "x": ("--config.flow.draws=4",)})
    assert "--config.sample.steps=2" in made.trainings[0].words


def test_settings_that_share_a_training_need_something_to_be_scored_on(plan):
    with pytest.raises(UserError, match=r"few: another setting differs from it only in sampling"):
        plan(SAMPLED)


def test_of_a_key_given_twice_the_settings_own_word_counts(plan):
    made = plan({"long": ("--config.train.steps=9",)})
    assert made.trainings[0].steps == 9


def test_a_checkpoint_can_be_sampled_and_not_trained(plan):
    changes = {"recipe": "", "overrides": (), "checkpoint": "runs/mine", "evaluate": ON}
    made = plan(SAMPLED, **changes)
    assert not made.trainings and len({run.folder for run in made.runs}) == 4
    assert ["--seed=0" in run.scoring for run in made.runs[:2]] == [True, False]
    assert "--seed=1" in made.runs[1].scoring
    with pytest.raises(UserError, match=r"draws=2 changes a training, and runs/mine is trained"):
        plan({"a": ("--config.flow.draws=2",)}, **changes)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("--config.flow.drwas=2", "slip, seed 0: cannot apply .*no such key"),
        ("--config.flow.draws=many", "slip, seed 0: cannot apply"),
        ("--config.train.steps=0", "slip, seed 0: train.steps must be at least 1"),
        ("--config.evaluation.task=m3:sides=3", "slip, seed 0: evaluation.task: M3 has no setting"),
    ],
)
def test_a_wrong_word_is_told_with_its_setting_before_anything_runs(plan, tmp_path, word, told):
    with pytest.raises(UserError, match=told):
        plan({"fine": (), "slip": (word,)})
    assert not (tmp_path / "sweep").exists()


def test_settings_whose_folders_would_be_the_same_are_refused(plan):
    with pytest.raises(UserError, match=r"'a b' and 'A/B' would share a folder"):
        plan({"a b": (), "A/B": ("--config.flow.draws=4",)})


def test_a_training_is_done_when_its_last_step_is_saved_and_evaluated(plan):
    training = plan().trainings[0]
    assert not training.finished()
    training.folder.mkdir(parents=True)
    metrics = training.folder / "metrics.jsonl"
    metrics.write_text('{"step": 2, "eval/quality": 1.0}\n{"step": 3, "loss": 1.0}\n')
    (training.folder / "checkpoints" / "3").mkdir(parents=True)
    assert not training.finished()
    with metrics.open("a") as file:
        file.write(
            '{"step": 3, "eval/quality": 2.0, "eval/other": 3.0}\n{"step": 3, "goodput/x": 1}\n'
        )
    assert training.finished()
    assert training.last_scores() == {"quality": 2.0}
    (training.folder / "checkpoints" / "3").rename(training.folder / "checkpoints" / "2")
    assert not training.finished()


def test_a_folder_begun_with_other_settings_is_refused_unless_only_the_machine_differs(plan):
    folder = plan().trainings[0].folder
    folder.mkdir(parents=True)

    def begin(*words: str) -> None:
        changes = ("--config.train.steps=3", "--config.optimizer.learning_rate=0.001")
        config = load_recipe("nano_m3", [*changes, "--config.seed=0", *words])
        (folder / "config.json").write_text(to_json(config))

    begin("--config.data.workers=3", "--config.mesh.data=1")
    plan()
    begin("--config.train.steps=5")
    with pytest.raises(UserError, match=r"slow-seed0 was begun with train\.steps = 5, now it is 3"):
        plan()


def test_scores_count_for_the_words_they_were_made_with(plan):
    run = plan({"few": ("--config.sample.steps=2",)}, recipe="", overrides=(), checkpoint="m",
               evaluate=ON).runs[0]  # fmt: skip
    assert run.scores() is None
    run.folder.mkdir(parents=True)
    report = {"quality": {"fused": 2.0, "mean": 9.0}, "detail": {"fused": None}, "count": 3}
    (run.folder / "report.json").write_text(json.dumps(report))
    assert run.scores() is None  # whose it is nobody knows: the scoring was interrupted
    run.scored()
    assert run.scores() == {"quality": 2.0}
    other = plan({"few": ("--config.sample.steps=3",)}, recipe="", overrides=(), checkpoint="m",
                 evaluate=ON).runs[0]  # fmt: skip
    assert other.folder == run.folder and other.scores() is None
