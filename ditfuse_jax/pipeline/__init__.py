"""The data pipeline: sources, mixtures and batches.  It does not import JAX."""

from ditfuse_jax.pipeline.examples import Arrays, ExampleEncoder
from ditfuse_jax.pipeline.loader import DataPipeline, MixtureComponent, fixed_batch
from ditfuse_jax.pipeline.sources import SAMPLES, Source, open_source

__all__ = [
    "SAMPLES",
    "Arrays",
    "DataPipeline",
    "ExampleEncoder",
    "MixtureComponent",
    "Source",
    "fixed_batch",
    "open_source",
]
