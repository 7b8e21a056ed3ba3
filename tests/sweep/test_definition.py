"""Sweep files: those that are shipped, and those that are wrong."""

import ast

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.resources import resource
from ditfuse_jax.sweep import Sweep, load_sweep
from ditfuse_jax.sweep.plan import make_plan

SHIPPED = sorted(path.stem for path in resource("configs", "sweeps").glob("[!_]*.py"))
ARGUMENTS = {"ivif_target": ":pairs", "lora_rank": ":weights", "lora_targets": ":weights"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_sweep_makes_runs_that_differ(name, tmp_path):
    sweep = load_sweep(name + ARGUMENTS.get(name, ""), recipe="nano_m3")
    plan = make_plan(sweep, tmp_path)
    assert len(plan.runs) == len(sweep.items()) * len(sweep.seeds) >= 6
    done = [(run.training.words if run.training else (), run.scoring[5:]) for run in plan.runs]
    assert len(set(done)) == len(plan.runs)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_sweep_tells_the_command_that_runs_it_and_has_a_title_of_one_line(name):
    docstring = ast.get_docstring(
        ast.parse(resource("configs", "sweeps", f"{name}.py").read_text())
    )
    assert f"ditfuse sweep {name}" in (docstring or "")
    title = load_sweep(name + ARGUMENTS.get(name, "")).title
    assert not title.endswith(".") and 20 < len(title) < 100


@pytest.mark.parametrize("name", ["guidance", "sampling_steps"])
def test_the_ablations_of_sampling_train_nothing_where_a_model_is_given(name, tmp_path):
    sweep = load_sweep(f"{name}:runs/mine")
    plan = make_plan(sweep, tmp_path)
    assert not plan.trainings
    assert {run.scoring[2] for run in plan.runs} == {"runs/mine"}
    assert make_plan(load_sweep(name), tmp_path).trainings != []


def test_settings_may_be_yielded_as_pairs():
    pairs = ((f"{n}", [f"--config.flow.draws={n}"]) for n in (1, 2))
    sweep = Sweep(pairs, recipe="nano_m3")
    expected = [("1", ("--config.flow.draws=1",)), ("2", ("--config.flow.draws=2",))]
    assert sweep.items() == expected
    assert sweep.items() == expected  # the generator is used up


def test_words_of_the_command_line_come_last_and_its_recipe_counts(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Mine.\n\nMore."""\nfrom ditfuse_jax.sweep import Sweep\n'
        "def get_sweep(arg=''):\n"
        "    return Sweep({arg: ()}, recipe='nano_m3', overrides=('--config.seed=1',))\n"
    )
    sweep = load_sweep(f"{file}:name", "small", ["--config.seed=2"])
    assert sweep.recipe == "small" and sweep.title == "Mine"
    assert tuple(sweep.overrides) == ("--config.seed=1", "--config.seed=2")
    assert sweep.items() == [("name", ())]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "AttributeError.*get_sweep"),
        ("def get_sweep(:", "SyntaxError"),
        ("def get_sweep(): return 1 / 0", "ZeroDivisionError"),
        ("def get_sweep(): return [1]", "returns list, not a Sweep"),
        ("def get_sweep(): return Sweep({})", "settings need names, at least one"),
        ("def get_sweep(): return Sweep({'a': ()})", "either a recipe to train or a checkpoint"),
        ("def get_sweep(): return Sweep({'a': 'b'}, 'nano_m3')", "setting 'a' must be a tuple"),
        ("def get_sweep(): return Sweep({'a': ('b=1',)}, 'nano_m3')", "'b=1' is no override"),
        ("def get_sweep(): return Sweep(['ab'], 'nano_m3')", "must be names and their words"),
        ("def get_sweep(): return Sweep([('a', ()), ('a', ())], 'nano_m3')", "are called 'a'"),
        ("def get_sweep(): return Sweep({'a': ()}, 'nano_m3', (1, 1))", "seeds must be different"),
        ("def get_sweep(): return Sweep({'a': ()}, 'nano_m3', (-1,))", "whole numbers from 0"),
        ("def get_sweep(): return Sweep({'a': ()}, checkpoint='x')", "needs evaluate="),
        (
            "def get_sweep(): return Sweep({'a': ()}, 'nano_m3', metrics=('nice',))",
            "metric 'nice' is unknown; choose from",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_line_with_its_path(tmp_path, code, told):
    file = tmp_path / "wrong.py"
    file.write_text(f"from ditfuse_jax.sweep import Sweep\n{code}\n")
    with pytest.raises(UserError, match=told) as caught:
        load_sweep(str(file))
    assert "wrong.py" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_is_told_with_the_known_ones_and_a_missing_file_with_its_path(tmp_path):
    with pytest.raises(
        UserError, match=r"'blocks' is unknown; choose from block_size, degradations"
    ):
        load_sweep("blocks")
    with pytest.raises(UserError, match=r"no sweep file at .*none\.py"):
        load_sweep(str(tmp_path / "none.py"))


def test_a_recipe_for_a_sweep_that_trains_nothing_is_refused():
    with pytest.raises(UserError, match=r"samples from runs/mine and trains no recipe"):
        load_sweep("guidance:runs/mine", recipe="small")
