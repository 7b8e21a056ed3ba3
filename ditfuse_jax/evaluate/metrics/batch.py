"""Metrics of a batch of scenes of one size inside a jitted function, on one device or a mesh."""

import jax

from ditfuse_jax.evaluate.metrics.compute import scene_metrics


def batch_metrics(
    fused: jax.Array, sources: jax.Array, clean: jax.Array, names: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Computes metrics of one fused image of each of N scenes, inside a jitted function.

    Args:
      fused: uint8 `(N, H, W, 3)`.
      sources: uint8 `(N, K, H, W, 3)`.
      clean: uint8 `(N, H, W, 3)`.
      names: keys of `METRICS`, except metrics that are computed on the host.

    Returns:
      Metric name -> float32 `(N,)`.
    """

    def one(fused: jax.Array, sources: jax.Array, clean: jax.Array) -> dict[str, jax.Array]:
        scores = scene_metrics(fused[None], sources, clean, names)
        return {name: value[0] for name, value in scores.items()}

    return jax.vmap(one)(fused, sources, clean)
