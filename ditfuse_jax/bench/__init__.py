"""Benchmarks: how fast training, sampling and data run here."""

from ditfuse_jax.bench.run import BENCHMARKS, bench

__all__ = ["BENCHMARKS", "bench"]
