"""The data pipeline: sources, mixture, batches and position.  Nothing here imports jax itself."""

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
