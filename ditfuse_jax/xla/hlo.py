"""Parser of optimised HLO text: computations, instructions, and how often each runs."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterator

# Bytes per element; sub-byte types are rounded up.
_SIZES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "token": 0}
_ARRAY = re.compile(r"([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%?([\w.\-]+)\s*$")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(
    r"\b(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape.

    Attributes:
      dtype: HLO's name of the type.
      dims: sizes of the dimensions.
      on_chip: whether it is in the core's own memory (TPU memory space 1) instead of HBM.
    """

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool

    @property
    def size(self) -> int:
        size = 1
        for dim in self.dims:
            size *= dim
        return size

    @property
    def bytes(self) -> int:
        if self.dtype in _SIZES:
            return self.size * _SIZES[self.dtype]
        bits = re.search(r"\d+", self.dtype)  # s32, u8, f8e4m3fn, s4
        return self.size * (-(-int(bits.group()) // 8) if bits else 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction: `name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    literal: str
    root: bool

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of its result, in the order of a tuple."""
        return parse_shape(self.shape)

    def called(self) -> Iterator[tuple[str, str]]:
        """Yields (role, name) of the computations that it runs."""
        yield from _CALLED.findall(self.attributes)
        for names in _BRANCHES.findall(self.attributes):
            for name in names.split(","):
                yield "branch", name.strip().lstrip("%")


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A parsed program.

    Attributes:
      computations: by name, each with its instructions in order.
      entry: name of the entry computation.
      runs: number of executions of each computation; for a fusion's computation, of the fusion.
      fused: computations inside of one kernel, whose intermediate values are not stored.
      unknown_loops: loops whose trip count could not be determined; they count once.
    """

    computations: dict[str, Computation]
    entry: str
    runs: dict[str, float]
    fused: frozenset[str]
    unknown_loops: tuple[str, ...]

    def instructions(self) -> Iterator[tuple[str, float, Instruction]]:
        """Yields (computation, runs, instruction) of all instructions that run."""
        for name, runs in self.runs.items():
            for instruction in self.computations[name].values():
                yield name, runs, instruction


def parse_shape(text: str) -> tuple[Array, ...]:
    """Parses a shape like `(f32[2,3]{1,0:T(8,128)S(1)}, s32[])` to its arrays."""
    return tuple(
        Array(dtype, tuple(int(d) for d in dims.split(",") if d), "S(1)" in layout)
        for dtype, dims, layout in _ARRAY.findall(text)
    )


def parse_hlo(text: str) -> Module:
    """Parses the text of `Compiled.as_text()`."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            header = _HEADER.match(line)
            if header:
                current = computations.setdefault(header.group(2), {})
                entry = header.group(2) if header.group(1) else entry
        elif line.startswith("}") and not line.startswith("}}"):  # "}}" ends an attribute
            current = None
        else:
            instruction = _parse_line(line)
            if instruction:
                current[instruction.name] = instruction
    runs, fused, unknown = _count_runs(computations, entry)
    return Module(computations, entry, runs, fused, unknown)


def trip_count(computations: dict[str, Computation], inside: str, loop: Instruction) -> int | None:
    """Returns the trip count of a `while` from its constants, or None if it is not determined.

    Args:
      computations: all computations by name.
      inside: name of the computation that contains the loop.
      loop: the instruction.
    """
    known = re.search(r'known_trip_count"?[:=]\s*\{\s*"n"\s*:\s*"(\d+)"', loop.attributes)
    if known:
        return int(known.group(1))
    parts = dict(loop.called())
    condition, body = computations[parts["condition"]], computations[parts["body"]]
    compare = next(i for i in condition.values() if i.root)
    if compare.opcode == "fusion":
        inner = computations[dict(compare.called())["calls"]]
        outer = [condition[name] for name in compare.operands]
        compare = next(i for i in inner.values() if i.root)
        given = {i.name: outer[int(i.literal)] for i in inner.values() if i.opcode == "parameter"}
        sides = [given.get(name) or inner[name] for name in compare.operands]
    else:
        sides = [condition[name] for name in compare.operands if name in condition]
    if compare.opcode != "compare" or "direction=LT" not in compare.attributes or len(sides) != 2:
        return None
    index = re.search(r"index=(\d+)", sides[0].attributes)
    bound = _constant(condition, sides[1])
    if bound is None:
        bound = _carried(computations, inside, loop, sides[1])
    if index is None or bound is None:
        return None
    start = _carried(computations, inside, loop, sides[0])
    step = _step(body, int(index.group(1)))
    return max(0, -(-(bound - (start or 0)) // (step or 1)))


def _step(body: Computation, index: int) -> int | None:
    """Returns the constant that a loop's body adds to element `index` of its tuple, or None."""
    root = next(i for i in body.values() if i.root)
    if root.opcode != "tuple" or index >= len(root.operands):
        return None
    add = body.get(root.operands[index])
    if add is None or add.opcode not in ("add", "fusion"):
        return None
    steps = [_constant(body, body[name]) for name in add.operands if name in body]
    return next((step for step in steps if step is not None), None)


def _carried(
    computations: dict[str, Computation], inside: str, loop: Instruction, element: Instruction
) -> int | None:
    """Returns the initial value of an element of the loop's tuple if it is a constant, or None."""
    index = re.search(r"index=(\d+)", element.attributes)
    around = computations[inside]
    given = around.get(loop.operands[0])
    if index is None or given is None or given.opcode != "tuple":
        return None
    return _constant(around, around[given.operands[int(index.group(1))]])


def _constant(computation: Computation, instruction: Instruction | None) -> int | None:
    while instruction is not None and instruction.opcode in ("copy", "bitcast", "convert"):
        instruction = computation.get(instruction.operands[0])
    if instruction is None or instruction.opcode != "constant":
        return None
    return int(instruction.literal) if re.fullmatch(r"-?\d+", instruction.literal) else None


def _count_runs(
    computations: dict[str, Computation], entry: str
) -> tuple[dict[str, float], frozenset[str], tuple[str, ...]]:
    runs: dict[str, float] = collections.defaultdict(float)
    fused: set[str] = set()
    unknown: list[str] = []

    def visit(name: str, times: float) -> None:
        runs[name] += times
        for instruction in computations[name].values():
            trips = 1.0
            if instruction.opcode == "while":
                found = trip_count(computations, name, instruction)
                if found is None and instruction.name not in unknown:
                    unknown.append(instruction.name)
                trips = float(1 if found is None else found)
            for role, called in instruction.called():
                if role == "to_apply" and instruction.opcode != "call":
                    continue  # the scalar function of a reduction
                if instruction.opcode == "fusion" or name in fused:
                    fused.add(called)
                visit(called, times * trips)

    visit(entry, 1.0)
    return dict(runs), frozenset(fused), tuple(unknown)


def _parse_line(line: str) -> Instruction | None:
    left, equals, right = line.strip().partition(" = ")
    if not equals:
        return None
    right = re.sub(r"/\*.*?\*/", "", right)
    end = _closing(right, 0) if right.startswith("(") else right.index(" ")
    shape, rest = right[:end], right[end:].strip()
    opcode, _, _ = rest.partition("(")
    start = len(opcode)
    close = _closing(rest, start)
    inner = rest[start + 1 : close - 1]
    operands = tuple(
        match.group(1) for part in _split(inner) if (match := _NAME.search(part)) is not None
    )
    root = left.startswith("ROOT ")
    name = left.removeprefix("ROOT ").lstrip("%")
    return Instruction(name, shape, opcode, operands, rest[close:], inner, root)


def parse_ints(text: str) -> list[int]:
    """Parses integers separated by commas."""
    return [int(part) for part in text.split(",") if part]


def _closing(text: str, start: int) -> int:
    """Returns the index after the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0:
            return place + 1
    return len(text)


def _split(text: str) -> list[str]:
    """Splits at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
