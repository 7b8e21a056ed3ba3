"""Which collectives of a compiled program run while products are computed."""

import dataclasses
import re
from collections.abc import Iterator

from ditfuse_jax.aot.collectives import COLLECTIVES

_KINDS = "|".join(COLLECTIVES)
_COLLECTIVE = re.compile(rf"\s*(?:ROOT )?%?([\w.\-]+) = .*? (?:{_KINDS})(-start|-done|)\(([^)]*)")
# TPUs fuse a product with what follows it (kOutput); kernels are custom calls.
_PRODUCT = re.compile(r" (?:convolution|dot|custom-call)\(| fusion\(.*kind=kOutput")


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Numbers of collectives in a program's text; those in a loop's body count once.

    Attributes:
      asynchronous: with a start and an end.
      during_products: of these, with a matrix product, convolution or kernel scheduled in between.
      synchronous: the others.
    """

    asynchronous: int
    during_products: int
    synchronous: int


def overlap(hlo: str) -> Overlap:
    """Counts the collectives of an optimised, scheduled program.

    Collectives inside of fusions, which a TPU runs as parts of kernels, are not counted.
    """
    asynchronous = during = synchronous = 0
    for lines in _computations(hlo):
        started: dict[str, int] = {}
        for number, line in enumerate(lines):
            found = _COLLECTIVE.match(line)
            if not found:
                continue
            name, kind, operands = found.groups()
            if kind == "-start":
                started[name] = number
            elif not kind:
                synchronous += 1
            else:
                start = started.get(operands.lstrip("%").split(",")[0])
                if start is not None:
                    asynchronous += 1
                    during += any(map(_PRODUCT.search, lines[start + 1 : number]))
    return Overlap(asynchronous, during, synchronous)


def _computations(hlo: str) -> Iterator[list[str]]:
    """Yields the lines of each computation that is not a fusion."""
    for text in re.split(r"\n(?=\S.*\{\n)", hlo):
        lines = text.splitlines()
        if lines and "fused_computation" not in lines[0] and "async_collective" not in lines[0]:
            yield lines
