"""Notebooks as pages: text, code and the outputs that the file holds."""

import json
from pathlib import Path
from typing import Any


def notebook_page(path: Path) -> str:
    """Returns a notebook as Markdown; pictures are embedded, other outputs are shown as text."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = [part for cell in notebook["cells"] for part in _cell(cell)]
    note = f"*This page is the notebook `docs/{path.parent.name}/{path.name}`.*"
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        return [source]
    outputs = [_output(output) for output in cell.get("outputs", [])]
    return [f"```python\n{source}\n```", *(text for text in outputs if text)]


def _output(output: dict[str, Any]) -> str:
    if "text" in output:
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = output.get("data", {})
    for kind in ("image/jpeg", "image/png"):
        if kind in data:
            code = "".join(data[kind]).replace("\n", "")
            return f'<img alt="output" src="data:{kind};base64,{code}">'
    if "text/html" in data:
        return f'<div class="output">\n{"".join(data["text/html"]).strip()}\n</div>'
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""
