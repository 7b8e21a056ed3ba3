"""`ditfuse compile`: errors, exit codes and the table."""

import json

import pytest

import ditfuse_jax.aot
from ditfuse_jax.aot.cached_compile import Compilation
from ditfuse_jax.aot.report import make_report
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
    return make_report("train", facts, done, {"parameters": 2**30}, 1e12, TPUS["v6e"], [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --topology"),
        (["--topology", "v9z:2x2"], "'v9z:2x2' is unknown: write the chip (v5e, v5p, v6e, v7x)"),
        (["--topology", "v6e"], "'v6e' is unknown"),
        (["--topology", "v6e:2x4", "--slices", "0"], "slices must be at least 1"),
        (["--topology", "h100:8"], "only on a machine with such a GPU"),
    ],
)
def test_an_invalid_topology_is_reported_in_one_line(capsys, options, message):
    assert main(["compile", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(("out_of_memory", "code"), [("", 0), ("RESOURCE_EXHAUSTED", 3)])
def test_a_program_that_does_not_fit_gives_exit_code_3(monkeypatch, capsys, out_of_memory, code):
    monkeypatch.setattr(
        ditfuse_jax.aot, "compile_programs", lambda *_, **__: [report(out_of_memory)]
    )
    assert main(["compile", "--topology", "v6e:2x4", "--json"]) == code
    (found,) = json.loads(capsys.readouterr().out)
    assert found["fits"] is (code == 0)
    assert found["consumers"] == {"parameters": 2**30}


def test_the_table_is_written_between_its_markers(monkeypatch, tmp_path):
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
def test_a_case_is_identified_by_attention_and_remat_of_its_recipe(case, topology):
    recipe = case.recipe(512, topology.slices)
    (_, attention, kept, *_), *_ = _known_or_waiting(case, topology, {})
    assert attention == {"auto": "splash"}.get(recipe.model.attention, recipe.model.attention)
    assert kept == ("" if case.program == "sample" else recipe.model.remat)
    assert kept != "auto"


def test_rows_stay_until_they_are_replaced_and_missing_ones_can_be_selected(monkeypatch, tmp_path):
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


def test_a_document_without_markers_is_not_changed(tmp_path):
    path = tmp_path / "scaling.md"
    path.write_text("nothing here\n")
    with pytest.raises(UserError, match="no place for the table"):
        write_table(path)
    assert path.read_text() == "nothing here\n"
