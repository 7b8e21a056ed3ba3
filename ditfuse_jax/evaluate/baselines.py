"""Methods that every table shows for comparison: trivial fusions, and the autoencoder's limit.

Metrics of similarity to the sources are easily gamed (copying one source scores well), so no table
is complete without them.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ditfuse_jax.registry import Registry

Baseline = Callable[[Sequence[np.ndarray]], np.ndarray]


def mean_of_sources(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the pixelwise mean of K uint8 images, rounded half up."""
    k = len(sources)
    total = np.sum([source.astype(np.uint32) for source in sources], axis=0)
    return ((2 * total + k) // (2 * k)).astype(np.uint8)


def maximum_of_sources(sources: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the maximum of K uint8 images per pixel and channel."""
    return np.maximum.reduce(list(sources))


BASELINES: Registry[Baseline] = Registry(
    "baseline",
    {
        "mean": mean_of_sources,
        "max": maximum_of_sources,
        "copy_a": lambda sources: sources[0],
        "copy_b": lambda sources: sources[1],
    },
)
# The autoencoder's reconstruction of an image: a model on its latents hardly gets closer to it.
CEILINGS = ("autoencoder_of_clean", "autoencoder_of_a")
_TITLES = {
    "copy_a": "copy A",
    "copy_b": "copy B",
    "autoencoder_of_clean": "autoencoder of clean",
    "autoencoder_of_a": "autoencoder of A",
}


def is_baseline(method: str) -> bool:
    """Returns whether a method is a baseline or a ceiling, which are shown but not compared."""
    return method in CEILINGS or method in BASELINES


def method_title(method: str) -> str:
    """Returns a method's name as tables print it."""
    return _TITLES.get(method, method)
