"""Folders and commands of a sweep's trials, and which trials are done."""

import json
import shutil

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.train.recipe import load_recipe, to_json

SAMPLED = {"few": ("--config.sample.steps=2",), "many": ("--config.sample.steps=8",)}
ON = ("--data", "somewhere")


def test_each_setting_is_trained_with_each_seed_in_its_own_folder(plan, tmp_path):
    made = plan({"A / b": ("--config.flow.draws=3",), "c": ()}, seeds=(0, 7))
    assert [trial.name for trial in made.trials] == [
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


def test_settings_that_differ_in_sampling_share_a_training_and_are_scored_separately(plan):
    made = plan(SAMPLED | {"other": ("--config.flow.draws=4",)}, evaluate=ON)
    assert len(made.trainings) == 4 and len(made.trials) == 6
    few, many = made.trials[0], made.trials[2]
    assert few.training is many.training
    assert few.evaluation[-1] == "--steps=2" and many.evaluation[-1] == "--steps=8"
    assert few.evaluation[2] == str(few.training.folder)
    assert few.folder != many.folder
    assert not [item for item in few.training.overrides if "sample" in item]
    assert made.trials[4].evaluation[-2:] == ON  # sampled with the settings of its recipe


def test_sampling_overrides_are_passed_to_a_training_that_evaluates_itself(plan):
    made = plan({"few": ("--config.sample.steps=2",), "x": ("--config.flow.draws=4",)})
    assert "--config.sample.steps=2" in made.trainings[0].overrides


def test_trainings_and_evaluations_load_the_extensions_of_the_sweep(plan, tmp_path):
    extension = tmp_path / "extension_of_a_sweep.py"
    extension.write_text("")
    made = plan(SAMPLED, evaluate=ON, imports=(str(extension),))
    for command in (made.trainings[0].command, made.trials[0].evaluation):
        assert f"--import={extension}" in command
    assert made.trainings[0].config.imports == (str(extension),)


def test_settings_that_share_a_training_need_data_to_be_scored_on(plan):
    with pytest.raises(UserError, match=r"few: another setting differs from it only in sampling"):
        plan(SAMPLED)


def test_a_settings_own_override_replaces_the_one_for_all_settings(plan):
    made = plan({"long": ("--config.train.steps=9",)})
    assert made.trainings[0].steps == 9


def test_a_checkpoint_can_be_sampled_but_not_trained(plan):
    changes = {"recipe": "", "overrides": (), "checkpoint": "runs/mine", "evaluate": ON}
    made = plan(SAMPLED, **changes)
    assert not made.trainings and len({trial.folder for trial in made.trials}) == 4
    assert ["--seed=0" in trial.evaluation for trial in made.trials[:2]] == [True, False]
    assert "--seed=1" in made.trials[1].evaluation
    with pytest.raises(UserError, match=r"draws=2 changes the training, and runs/mine is already"):
        plan({"a": ("--config.flow.draws=2",)}, **changes)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "--config.flow.drwas=2",
            "slip, seed 0: cannot apply .*no such key: 'drwas' Did you mean \"draws\"",
        ),
        ("--config.flow.draws=many", "slip, seed 0: cannot apply"),
        ("--config.train.steps=0", "slip, seed 0: train.steps must be at least 1"),
        (
            "--config.evaluations.held_out.task=m3:sides=3",
            "slip, seed 0: evaluations.held_out.task: .*option 'sides' is unknown",
        ),
    ],
)
def test_a_wrong_override_is_reported_with_its_setting_before_anything_runs(
    plan, tmp_path, override, message
):
    with pytest.raises(UserError, match=message):
        plan({"fine": (), "slip": (override,)})
    assert not (tmp_path / "sweep").exists()


def test_settings_that_would_share_a_folder_are_refused(plan):
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
            '{"step": 3, "eval/quality": 2.0, "eval/quality_of_mean": 3.0}\n'
            '{"step": 3, "eval/pairs/quality": 4.0, "eval/mine": 5.0, "goodput/x": 1}\n'
        )
    assert training.finished()
    assert training.last_scores() == {"quality": 2.0, "pairs/quality": 4.0, "mine": 5.0}
    (training.folder / "checkpoints" / "3").rename(training.folder / "checkpoints" / "2")
    assert not training.finished()


def test_a_training_needs_an_evaluation_only_if_it_has_one_that_gives_the_scores(plan, tmp_path):
    recipe = tmp_path / "unevaluated.py"
    recipe.write_text(
        "from ditfuse_jax.train.recipe import load_recipe\n"
        "def get_config():\n"
        "    config = load_recipe('nano_m3').unlock()\n"
        "    config.evaluations = {}\n"
        "    return config\n"
    )
    scored, unevaluated = plan(evaluate=ON), plan(recipe=str(recipe))
    own = plan()
    (own.trainings[0].folder / "checkpoints" / "3").mkdir(parents=True)
    for made, finished in ((scored, True), (unevaluated, True), (own, False)):
        assert made.trainings[0].finished() == finished


def test_a_folder_of_other_settings_is_refused_unless_only_the_machine_differs(plan):
    folder = plan().trainings[0].folder
    folder.mkdir(parents=True)

    def start(*overrides: str) -> None:
        changes = ("--config.train.steps=3", "--config.optimizer.learning_rate=0.001")
        config = load_recipe("nano_m3", [*changes, "--config.seed=0", *overrides])
        (folder / "config.json").write_text(to_json(config))

    start("--config.data.workers=3", "--config.mesh.data=1", "--config.data.cache=/c")
    plan()
    start("--config.train.keep_checkpoints=9", "--config.train.hang_timeout=9.0")
    plan()
    start("--config.train.steps=5")
    with pytest.raises(
        UserError, match=r"slow-seed0 was started with train\.steps = 5, now it is 3"
    ):
        plan()


def test_a_damaged_config_of_a_folder_is_one_line(plan):
    folder = plan().trainings[0].folder
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match=r"config\.json cannot be read .*: remove .*slow-seed0"):
        plan()


def test_a_seed_in_a_setting_is_refused(plan):
    with pytest.raises(
        UserError, match=r"setting 'a': --config\.seed has no effect.*seeds=\(0, 1\)"
    ):
        plan({"a": ("--config.seed=5",)})


def test_a_sweep_whose_scores_would_not_be_recorded_is_refused_before_it_trains(plan):
    silent = {"a": ("--config.train.writers=('tensorboard',)",)}
    with pytest.raises(UserError, match=r"a, seed 0: .* writer jsonl .* now tensorboard"):
        plan(silent)
    assert plan(silent, evaluate=ON).trainings


def test_a_run_of_weights_is_the_same_until_it_goes_on(plan, tmp_path):
    run = tmp_path / "base"
    (run / "checkpoints/3").mkdir(parents=True)

    def made():
        return plan({"a": (f"--config.weights={run}",)})

    training = made().trainings[0]
    training.folder.mkdir(parents=True)
    config = json.loads(to_json(training.config)) | {"weights": str(run / "checkpoints/3")}
    (training.folder / "config.json").write_text(json.dumps(config))
    made()
    (run / "checkpoints/4").mkdir()
    with pytest.raises(UserError, match="was started with weights = "):
        made()


def test_weights_from_the_hub_are_the_same_while_their_branch_means_the_recorded_commit(
    plan, hub_server
):
    def made():
        return plan({"a": ("--config.weights=hf://lab/model",)})

    commit = hub_server.add("lab/model", {"config.json": b"{}"})
    training = made().trainings[0]
    training.folder.mkdir(parents=True)
    config = json.loads(to_json(training.config)) | {"weights": f"hf://lab/model@{commit}"}
    (training.folder / "config.json").write_text(json.dumps(config))
    made()
    hub_server.add("lab/model", {"LICENSE": b"new"})
    hub_server.forget()
    with pytest.raises(UserError, match=f"was started with weights = .*{commit}"):
        made()


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ((), ("task.overlap_fraction=0.9",), r"task\.overlap_fraction = \(none\), now it is 0\.9"),
        (("task.overlap_fraction=0.9",), (), r"task\.overlap_fraction = 0\.9, now it is \(none\)"),
        (("task.overlap_fraction=0.9",), ("task=mff",), r'photos\.task = "m3", now it is "mff"'),
        ((), ("task={'name': 'm3'}",), None),
    ],
)
def test_the_options_of_a_task_are_compared_however_they_are_written(plan, before, now, message):
    def made(words):
        return plan({"a": tuple(f"--config.data.mixture.photos.{word}" for word in words)})

    training = made(before).trainings[0]
    training.folder.mkdir(parents=True)
    (training.folder / "config.json").write_text(to_json(training.config))
    if message is None:
        made(now)
        return
    with pytest.raises(UserError, match=f"a-seed0 was started with data\\.mixture\\..*{message}"):
        made(now)


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1)])
def test_a_mixture_with_one_component_more_or_less_is_another_training(plan, tmp_path, before, now):
    recipe = tmp_path / "mixed.py"
    recipe.write_text(
        "from ditfuse_jax.train.recipe import load_recipe\n"
        "def get_config(count):\n"
        "    config = load_recipe('nano_m3').unlock()\n"
        "    part = config.data.mixture.photos.to_dict()\n"
        "    config.data.mixture = {f'part{i}': part for i in range(int(count))}\n"
        "    return config\n"
    )
    training = plan(recipe=f"{recipe}:{before}").trainings[0]
    training.folder.mkdir(parents=True)
    (training.folder / "config.json").write_text(to_json(training.config))
    plan(recipe=f"{recipe}:{before}")
    with pytest.raises(UserError, match=r"was started with data\.mixture\.part1\."):
        plan(recipe=f"{recipe}:{now}")


def test_a_setting_is_compared_with_an_older_folders_name_of_it(plan):
    training = plan().trainings[0]
    training.folder.mkdir(parents=True)
    config = json.loads(to_json(training.config))
    config["flow"]["detail"] = config["flow"].pop("gradient_loss_weight") + 1
    (training.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"was started with flow\.gradient_loss_weight"):
        plan()


def test_scores_are_used_only_with_the_arguments_that_computed_them(plan):
    trial = plan({"few": ("--config.sample.steps=2",)}, recipe="", overrides=(), checkpoint="m",
               evaluate=ON).trials[0]  # fmt: skip
    assert trial.scores() is None
    trial.folder.mkdir(parents=True)
    report = {"quality": {"fused": 2.0, "mean": 9.0}, "detail": {"fused": None}, "count": 3}
    (trial.folder / "report.json").write_text(json.dumps(report))
    assert trial.scores() is None  # the evaluation was interrupted
    trial.mark_scored()
    assert trial.scores() == {"quality": 2.0}
    other = plan({"few": ("--config.sample.steps=3",)}, recipe="", overrides=(), checkpoint="m",
                 evaluate=ON).trials[0]  # fmt: skip
    assert other.folder == trial.folder and other.scores() is None


def test_scores_of_what_the_checkpoint_was_before_are_not_used(plan, tmp_path):
    run = tmp_path / "mine"

    def made():
        return plan({"a": ()}, recipe="", overrides=(), checkpoint=str(run), evaluate=ON).trials[0]

    (run / "checkpoints" / "3").mkdir(parents=True)
    (run / "checkpoints" / "3" / "d").write_text("x")
    made().folder.mkdir(parents=True)
    (made().folder / "report.json").write_text('{"quality": {"fused": 2.0}}')
    assert made().scores() is None and not made().is_outdated()
    made().mark_scored()
    assert made().scores() == {"quality": 2.0}
    (run / "checkpoints" / "4").mkdir()
    (run / "checkpoints" / "4" / "d").write_text("x")
    assert made().is_outdated() and made().scores() is None
    made().mark_scored()
    assert made().scores() == {"quality": 2.0}
    shutil.rmtree(run)  # the scores remain those of the model that there was
    assert made().scores() == {"quality": 2.0}


def test_scores_of_a_checkpoint_whose_model_was_not_recorded_are_outdated(plan, tmp_path):
    (tmp_path / "model.safetensors").write_text("x")
    trial = plan({"a": ()}, recipe="", overrides=(), checkpoint=str(tmp_path),
                 evaluate=ON).trials[0]  # fmt: skip
    trial.folder.mkdir(parents=True)
    (trial.folder / "report.json").write_text('{"quality": {"fused": 2.0}}')
    (trial.folder / "arguments.json").write_text(json.dumps(trial.evaluation))
    assert trial.is_outdated() and trial.scores() is None
