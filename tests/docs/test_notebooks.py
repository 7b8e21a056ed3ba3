"""The notebooks run from beginning to end, and the outputs that they hold are small."""

import nbformat
import pytest
from nbclient import NotebookClient

from docs.build_site import DOCS
from docs.notebook_pages import notebook_page

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_its_outputs_and_is_small(path):
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 300_000
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len(outputs) >= 4
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_page_has_its_text_code_and_pictures(path):
    page = notebook_page(path)
    assert page.startswith("# ")
    assert page.count("```python") == path.read_text(encoding="utf-8").count('"cell_type": "code"')
    assert "```text" in page or "data:image/jpeg;base64," in page


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_holds(path, tmp_path):
    held = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    for before, after in zip(held.cells, notebook.cells, strict=True):
        assert len(printed(before).splitlines()) == len(printed(after).splitlines())


def printed(cell) -> str:
    """Returns what a cell prints."""
    outputs = cell.get("outputs", [])
    return "".join(o["text"] for o in outputs if o.get("name") == "stdout")
