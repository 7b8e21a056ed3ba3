"""Scoring a batch of scenes of one size inside a jitted program, on one device or on a mesh."""

import jax

from ditfuse_jax.evaluate.metrics.compute import scene_metrics


def batch_metrics(
    fused: jax.Array, sources: jax.Array, clean: jax.Array, names: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Scores one fused image of each of N scenes; can be traced.

    Args:
      fused: uint8 `(N, H, W, 3)`.
      sources: uint8 `(N, K, H, W, 3)`.
      clean: uint8 `(N, H, W, 3)`.
      names: metrics of `METRICS`.

    Returns:
      Metric name -> float32 `(N,)`.
    """

    def one(fused: jax.Array, sources: jax.Array, clean: jax.Array) -> dict[str, jax.Array]:
        scores = scene_metrics(fused[None], sources, clean, names)
        return {name: value[0] for name, value in scores.items()}

    return jax.vmap(one)(fused, sources, clean)
