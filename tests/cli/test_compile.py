"""`ditfuse compile`: what it refuses and how it tells."""

import json

import pytest

import ditfuse_jax.aot
from ditfuse_jax.aot.cached_compile import Compilation
from ditfuse_jax.aot.report import examine
from ditfuse_jax.aot.table import CASES, _known_or_waiting, write_table
from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.accelerators import TPUS


def report(out_of_memory: str):
    text = "ENTRY %main (a: f32[2]) -> f32[2] {\n  ROOT %a = f32[2]{0} parameter(0)\n}\n"
    facts = {"attention": "xla", "topology": "v6e:2x4", "image_size": 512, "batch_size": 8}
    sizes = {"argument": 2**30, "output": 0, "alias": 0, "temp": 2**30}
    done = Compilation(
        "" if out_of_memory else text, {} if out_of_memory else sizes, 0.0, out_of_memory, 1.0
    )
    return examine("train", facts, done, {"parameters": 2**30}, 1e12, TPUS["v6e"], [0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give --topology"),
        (["--topology", "v9z:2x2"], "'v9z:2x2' is unknown: write the chip (v5e, v5p, v6e, v7x)"),
        (["--topology", "v6e"], "'v6e' is unknown"),
        (["--topology", "v6e:2x4", "--slices", "0"], "slices must be at least 1"),
        (["--topology", "h100:8"], "only where such a GPU is"),
    ],
)
def test_a_wrong_topology_is_told_in_one_line(capsys, words, told):
    assert main(["compile", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(("out_of_memory", "code"), [("", 0), ("RESOURCE_EXHAUSTED", 3)])
def test_what_does_not_fit_is_exit_code_3(monkeypatch, capsys, out_of_memory, code):
    monkeypatch.setattr(
        ditfuse_jax.aot, "compile_programs", lambda *_, **__: [report(out_of_memory)]
    )
    assert main(["compile", "--topology", "v6e:2x4", "--json"]) == code
    (found,) = json.loads(capsys.readouterr().out)
    assert found["fits"] is (code == 0)
    assert found["consumers"] == {"parameters": 2**30}


def test_the_table_replaces_what_stands_between_its_marks(monkeypatch, tmp_path):
    monkeypatch.setattr("ditfuse_jax.aot.table.compile_programs", lambda *_, **__: [report("")])
    path = tmp_path / "scaling.md"
    path.write_text("before\n<!-- table -->\nold\n<!-- end of the table -->\nafter\n")
    write_table(path)
    lines = path.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    rows = [line for line in lines if line.startswith("| train")]
    assert len(rows) == len(CASES)
    assert all(row.count("|") == lines[2].count("|") for row in rows)
    once = path.read_text()
    write_table(path)
    assert path.read_text() == once


@pytest.mark.parametrize(("case", "topology"), CASES)
def test_a_case_is_known_by_what_its_recipe_says(case, topology):
    recipe = case.recipe(512, topology.slices)
    (_, attention, kept, *_), *_ = _known_or_waiting(case, topology, {})
    assert attention == recipe.model.attention
    assert kept == ("" if case.program == "sample" else recipe.model.remat)


def test_rows_stay_until_they_are_renewed_and_only_missing_ones_may_be_asked_for(
    monkeypatch, tmp_path
):
    compiled = []

    def compile_programs(case, topology, **_):
        if case.lora:
            raise UserError("interrupted")
        compiled.append((case, topology))
        return []

    monkeypatch.setattr("ditfuse_jax.aot.table.compile_programs", compile_programs)
    path = tmp_path / "scaling.md"
    known = "| train | xla | attention | v5p:4x4x4 | 512 | 256 |" + " 1 |" * 8
    lost = "| train | xla | attention | v5p:4x4x4 | 512 | 999 |" + " 1 |" * 8
    path.write_text(f"<!-- table -->\n{lost}\n{known}\n<!-- end of the table -->\n")
    with pytest.raises(UserError, match="interrupted"):
        write_table(path, missing=True)
    assert known in path.read_text() and lost not in path.read_text()
    before = next(k for k, (case, _) in enumerate(CASES) if case.lora)
    assert compiled == list(CASES[1:before])
    with pytest.raises(UserError, match="interrupted"):
        write_table(path)
    assert known not in path.read_text()


def test_a_document_without_a_place_for_the_table_is_left_alone(tmp_path):
    path = tmp_path / "scaling.md"
    path.write_text("nothing here\n")
    with pytest.raises(UserError, match="no place for the table"):
        write_table(path)
    assert path.read_text() == "nothing here\n"
