"""The data pipeline: sources, mixture, batches and position.  Nothing here imports jax itself."""

from ditfuse_jax.pipeline.examples import Arrays, Encoder
from ditfuse_jax.pipeline.loader import Ingredient, Stream, fixed_batch
from ditfuse_jax.pipeline.sources import SAMPLES, Source, open_source

__all__ = [
    "SAMPLES",
    "Arrays",
    "Encoder",
    "Ingredient",
    "Source",
    "Stream",
    "fixed_batch",
    "open_source",
]
