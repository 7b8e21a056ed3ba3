"""Shipped sweeps, sweeps of users, and wrong ones."""

import ast

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.resources import resource
from ditfuse_jax.sweep import SWEEPS, Sweep, load_sweep
from ditfuse_jax.sweep.plan import make_plan

SHIPPED = sorted(path.stem for path in resource("configs", "sweeps").glob("[!_]*.py"))
ARGUMENTS = {"ivif_target": ":pairs", "lora_rank": ":weights", "lora_targets": ":weights"}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_trials_of_a_shipped_sweep_differ(name, tmp_path):
    sweep = load_sweep(name + ARGUMENTS.get(name, ""), recipe="nano_m3")
    plan = make_plan(sweep, tmp_path)
    assert len(plan.trials) == len(sweep.items()) * len(sweep.seeds) >= 6
    calls = [
        (trial.training.overrides if trial.training else (), trial.evaluation[5:])
        for trial in plan.trials
    ]
    assert len(set(calls)) == len(plan.trials)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_sweep_documents_its_command_and_has_a_title_of_one_line(name):
    docstring = ast.get_docstring(
        ast.parse(resource("configs", "sweeps", f"{name}.py").read_text())
    )
    assert f"ditfuse sweep {name}" in (docstring or "")
    title = load_sweep(name + ARGUMENTS.get(name, "")).title
    assert not title.endswith(".") and 20 < len(title) < 100


@pytest.mark.parametrize("name", ["guidance", "sampling_steps"])
def test_ablations_of_sampling_train_nothing_if_a_model_is_given(name, tmp_path):
    sweep = load_sweep(f"{name}:runs/mine")
    plan = make_plan(sweep, tmp_path)
    assert not plan.trainings
    assert {trial.evaluation[2] for trial in plan.trials} == {"runs/mine"}
    assert make_plan(load_sweep(name), tmp_path).trainings != []


def test_settings_may_be_an_iterator_of_pairs():
    pairs = ((f"{n}", [f"--config.flow.draws={n}"]) for n in (1, 2))
    sweep = Sweep(pairs, recipe="nano_m3")
    expected = [("1", ("--config.flow.draws=1",)), ("2", ("--config.flow.draws=2",))]
    assert sweep.items() == expected
    assert sweep.items() == expected  # the generator is used up


def test_overrides_of_the_command_line_come_last_and_its_recipe_replaces_the_sweeps(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Mine.\n\nMore."""\nfrom ditfuse_jax.sweep import Sweep\n'
        "def get_sweep(arg=''):\n"
        "    return Sweep({arg: ()}, recipe='nano_m3', overrides=('--config.flow.draws=1',))\n"
    )
    sweep = load_sweep(f"{file}:name", "small", ["--config.flow.draws=2"])
    assert sweep.recipe == "small" and sweep.title == "Mine"
    assert tuple(sweep.overrides) == ("--config.flow.draws=1", "--config.flow.draws=2")
    assert sweep.items() == [("name", ())]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "AttributeError.*get_sweep"),
        ("def get_sweep(:", "SyntaxError"),
        ("def get_sweep(): return 1 / 0", "ZeroDivisionError"),
        ("def get_sweep(): return [1]", "returns list, not a Sweep"),
        ("def get_sweep(): return Sweep({})", "settings need names, at least one"),
        ("def get_sweep(): return Sweep({'a': ()})", "either a recipe to train or a checkpoint"),
        ("def get_sweep(): return Sweep({'a': 'b'}, 'nano_m3')", "setting 'a' must be a tuple"),
        ("def get_sweep(): return Sweep({'a': ('b=1',)}, 'nano_m3')", "'b=1' is not an override"),
        ("def get_sweep(): return Sweep(['ab'], 'nano_m3')", "must map names to overrides"),
        ("def get_sweep(): return Sweep([('a', ()), ('a', ())], 'nano_m3')", "have the name 'a'"),
        ("def get_sweep(): return Sweep({'a': ()}, 'nano_m3', (1, 1))", "seeds must be different"),
        ("def get_sweep(): return Sweep({'a': ()}, 'nano_m3', (-1,))", "whole numbers from 0"),
        ("def get_sweep(): return Sweep({'a': ()}, checkpoint='x')", "needs evaluate="),
        (
            "def get_sweep(): return Sweep({'a': ()}, 'nano_m3', metrics=('nice',))",
            "metric 'nice' is unknown; choose from",
        ),
    ],
)
def test_a_wrong_file_is_reported_in_one_line_with_its_path(tmp_path, code, message):
    file = tmp_path / "wrong.py"
    file.write_text(f"from ditfuse_jax.sweep import Sweep\n{code}\n")
    with pytest.raises(UserError, match=message) as caught:
        load_sweep(str(file))
    assert "wrong.py" in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_names_and_missing_files_are_reported(tmp_path):
    with pytest.raises(
        UserError, match=r"'blocks' is unknown; choose from block_size, degradations"
    ):
        load_sweep("blocks")
    with pytest.raises(UserError, match=r"no sweep file at .*none\.py"):
        load_sweep(str(tmp_path / "none.py"))


def test_a_recipe_for_a_sweep_that_trains_nothing_is_refused():
    with pytest.raises(UserError, match=r"samples from runs/mine and trains no recipe"):
        load_sweep("guidance:runs/mine", recipe="small")


def test_a_sweep_of_an_extension_is_found_by_name(tmp_path, monkeypatch):
    file = tmp_path / "my_sweeps.py"
    file.write_text(
        "from ditfuse_jax.sweep import SWEEPS, Sweep\n"
        "@SWEEPS.register('rates')\n"
        "def rates(arg):\n"
        '    """Learning rates."""\n'
        "    return Sweep({arg: ()}, recipe='nano_m3')\n"
    )
    monkeypatch.setattr(SWEEPS, "_entries", dict(SWEEPS))
    load_extensions([str(file)])
    sweep = load_sweep("rates:high")
    assert sweep.items() == [("high", ())] and sweep.title == "Learning rates"
    with pytest.raises(UserError, match="sweep rates: settings need names"):
        load_sweep("rates")
