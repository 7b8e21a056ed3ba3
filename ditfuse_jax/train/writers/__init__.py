"""Writers of metrics.

A writer records scalars somewhere.  `train.writers` of a recipe names entries of `WRITERS`; further
writers can be passed to `train`.
"""

from ditfuse_jax.train.writers.make import WRITERS, make_writers
from ditfuse_jax.train.writers.multi import MultiWriter
from ditfuse_jax.train.writers.writer import Writer

__all__ = ["WRITERS", "MultiWriter", "Writer", "make_writers"]
