"""The static structure of attention: which queries attend to which keys.

A mask is a list of parts.  Each part is a run of queries with the runs of keys that they attend to
and, unless that is all of these keys, a static pattern.  Implementations that can skip work use the
parts; others use the dense matrix.  Which tokens are padding is data, not structure: it is passed
beside the mask as `key_valid` (B, K).
"""

import dataclasses

import numpy as np

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Part:
    """Queries `[start, stop)` with the keys that they attend to.

    Attributes:
      start: first query.
      stop: one past the last query.
      keys: runs `(start, stop)` of keys.
      causal_tail: the last `stop - start` of these keys are the queries themselves, attended to
        causally.
    """

    start: int
    stop: int
    keys: tuple[Span, ...]
    causal_tail: bool = False

    @property
    def num_queries(self) -> int:
        return self.stop - self.start

    @property
    def num_keys(self) -> int:
        return sum(stop - start for start, stop in self.keys)

    def allowed(self) -> np.ndarray | None:
        """Returns the (queries, keys) pattern, or None if all queries attend to all keys."""
        if not self.causal_tail or self.num_queries == 1:
            return None
        n = self.num_queries
        pattern = np.ones((n, self.num_keys), bool)
        pattern[:, -n:] = np.tri(n, dtype=bool)
        return pattern


@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """Parts that tile the queries in order; hashable, so it can be a static argument of jit."""

    parts: tuple[Part, ...]
    num_keys: int

    @property
    def num_queries(self) -> int:
        return self.parts[-1].stop

    def dense(self) -> np.ndarray:
        """Returns the (queries, keys) boolean matrix, True where a query attends to a key."""
        matrix = np.zeros((self.num_queries, self.num_keys), bool)
        for part in self.parts:
            columns = np.concatenate([np.arange(*span) for span in part.keys])
            pattern = part.allowed()
            rows = matrix[part.start : part.stop]
            rows[:, columns] = True if pattern is None else pattern
        return matrix

    def num_pairs(self) -> int:
        """Returns the number of query-key pairs that are not masked out."""
        total = 0
        for part in self.parts:
            pattern = part.allowed()
            pairs = part.num_queries * part.num_keys if pattern is None else int(pattern.sum())
            total += pairs
        return total
