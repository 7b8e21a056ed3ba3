"""Benchmarks of training, sampling, the data pipeline and the metrics on this machine."""

from ditfuse_jax.bench.measurement import Measurement
from ditfuse_jax.bench.run import BENCHMARKS, bench

__all__ = ["BENCHMARKS", "Measurement", "bench"]
