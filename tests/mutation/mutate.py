"""Mutants of a source file: mutmut's operators, applied to one node of the syntax tree at a time.

mutmut's own runner is not used, because it skips decorated functions, hence every property of
`model/layout.py`, and constants outside functions.  Not mutated are types, decorators, imports,
assertions, the text of error messages, progress bars, and the `strict` argument of `zip`.
"""

import ast
import dataclasses
import difflib
import functools
from collections.abc import Iterator
from pathlib import Path

import libcst as cst  # pyright: ignore[reportMissingImports]
from mutmut.mutation.mutators import (  # pyright: ignore[reportMissingImports]
    mutation_operators,
    operator_arg_removal,
    operator_string,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Mutant:
    """One changed node.

    Attributes:
      file: path relative to the repository.
      function: qualified name of the function that holds the node, "" outside functions.
      module: syntax tree of the file.
      old: the node.
      new: what replaces it.
    """

    file: str
    function: str
    module: cst.Module
    old: cst.CSTNode
    new: cst.CSTNode

    @functools.cached_property
    def source(self) -> str:
        """The whole mutated file."""
        return self.module.deep_replace(self.old, self.new).code  # type: ignore[union-attr]

    @functools.cached_property
    def change(self) -> tuple[str, str]:
        """The changed lines before and after, each joined to one line."""
        lines = self.module.code.splitlines(), self.source.splitlines()
        removed, added = [], []
        for line in difflib.unified_diff(*lines, n=0, lineterm=""):
            if line.startswith("-") and not line.startswith("---"):
                removed.append(line[1:].strip())
            elif line.startswith("+") and not line.startswith("+++"):
                added.append(line[1:].strip())
        return " ".join(removed), " ".join(added)

    @functools.cached_property
    def line(self) -> int:
        """The first changed line of the original file, from 1."""
        pairs = zip(self.module.code.splitlines(), self.source.splitlines(), strict=False)
        return next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 1)

    @property
    def valid(self) -> bool:
        """Whether the mutant compiles and differs from the original in more than layout."""
        try:
            return meaning(self.source) != meaning(self.module.code)
        except SyntaxError:
            return False


def meaning(source: str) -> str:
    """Returns a text that is equal for sources which differ in comments and docstrings only."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return ast.dump(tree)


def mutants(root: Path, file: str) -> list[Mutant]:
    """All mutants of a file, in the order of the source."""
    module = cst.parse_module((root / file).read_text(encoding="utf-8"))
    collector = _Collector()
    module.visit(collector)
    return [Mutant(file, function, module, old, new) for function, old, new in collector.found]


class _Collector(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[str, cst.CSTNode, cst.CSTNode]] = []
        self._names: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _is_skipped(node):
            return False
        if isinstance(node, cst.Raise):  # a message must be there, whatever its words
            if isinstance(node.exc, cst.Call) and node.exc.args:
                self._add(node.exc, next(iter(operator_arg_removal(node.exc))))
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._names.append(node.name.value)
        for new in _mutations(node):
            self._add(node, new)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._names.pop()

    def _add(self, old: cst.CSTNode, new: cst.CSTNode) -> None:
        self.found.append((".".join(self._names), old, new))


def _is_skipped(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Call):
        return cst.Module([]).code_for_node(node.func) in ("tqdm", "tqdm.tqdm", "TypeVar")
    if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom | cst.Assert):
        return True
    if isinstance(node, cst.Assign):  # exported names and type aliases
        names = {t.target.value for t in node.targets if isinstance(t.target, cst.Name)}
        return "__all__" in names or _is_type(node.value)
    return isinstance(node, cst.If) and cst.Module([]).code_for_node(node.test) == "TYPE_CHECKING"


def _is_type(value: cst.BaseExpression) -> bool:
    if isinstance(value, cst.Call):
        return _called(value) == "TypeVar"
    return (
        isinstance(value, cst.Subscript)
        and isinstance(value.value, cst.Name)
        and value.value.value
        in (
            "Callable",
            "Literal",
            "Mapping",
            "Sequence",
            "Iterator",
            "dict",
            "list",
            "tuple",
            "type",
        )
    )


def _mutations(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if not isinstance(node, kind):
            continue
        if isinstance(node, cst.Call) and _called(node) in ("len", "isinstance"):
            continue  # always noticed: it raises
        for number, new in enumerate(operator(node)):
            if operator is operator_string and number:
                break  # the same string in capitals would be noticed by the same tests
            if not _drops_strict(node, new):
                yield new


def _called(node: cst.Call) -> str:
    return node.func.value if isinstance(node.func, cst.Name) else ""


def _drops_strict(old: cst.CSTNode, new: cst.CSTNode) -> bool:
    """Whether `strict=True`, which checks but computes nothing, is all that was changed."""
    if not isinstance(old, cst.Call) or not isinstance(new, cst.Call):
        return False
    kept = {id(arg) for arg in new.args}
    return any(
        arg.keyword is not None and arg.keyword.value == "strict" and id(arg) not in kept
        for arg in old.args
    )
