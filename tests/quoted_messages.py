"""Whether pages quote messages as the program prints them."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


@functools.cache
def messages() -> list[re.Pattern[str]]:
    """Returns every text of the program that is long enough to be a message, with any values."""
    patterns = []
    for folder in ("ditfuse_jax", "launch"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = node.values
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    parts = [node]
                else:
                    continue
                fixed = [p.value for p in parts if isinstance(p, ast.Constant)]
                if sum(len(str(text)) for text in fixed) >= 20:
                    texts = [
                        re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+?"
                        for p in parts
                    ]
                    if texts[-1] == ".+?":  # the rest of the line
                        texts[-1] = ".+"
                    patterns.append(re.compile("".join(texts)))
    return patterns


def coverage(line: str) -> float:
    """Returns the share of a line that is printed by the program; it may join several texts."""
    covered = {k for p in messages() for m in p.finditer(line) for k in range(m.start(), m.end())}
    return len(covered) / len(line)
