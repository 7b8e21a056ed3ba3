"""Sequences whose elements are found when they are needed."""

from collections.abc import Callable, Sequence
from typing import TypeVar, overload

_T = TypeVar("_T")


class LazySequence(Sequence[_T]):
    """A sequence that a function computes."""

    def __init__(self, length: int, get: Callable[[int], _T]):
        """Creates the sequence.

        Args:
          length: number of elements.
          get: position, from 0 -> element; picklable if the sequence is pickled.
        """
        self._length, self._get = length, get

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        places = range(self._length)[index]
        return self._get(places) if isinstance(places, int) else [self._get(k) for k in places]
