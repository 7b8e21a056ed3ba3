"""Names of records that are read when they are needed."""

from collections.abc import Callable, Sequence
from typing import overload


class LazyNames(Sequence[str]):
    """The names of a source's records."""

    def __init__(self, count: int, read: Callable[[int], str]):
        """Creates the sequence.

        Args:
          count: number of records.
          read: number of a record -> its name.
        """
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        numbers = range(self._count)[index]
        return self._read(numbers) if isinstance(numbers, int) else [self._read(k) for k in numbers]
