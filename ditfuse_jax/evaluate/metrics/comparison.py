"""What a metric is given: the images, and the work that several metrics need, done once."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.gradients import sobel
from ditfuse_jax.evaluate.metrics.histograms import joint_histogram
from ditfuse_jax.evaluate.metrics.sums import Centred, centred
from ditfuse_jax.evaluate.metrics.windows import Windows, gaussian_window

T = TypeVar("T")

SSIM_WINDOW = gaussian_window(11, sigma=1.5)


class Comparison:
    """M fused images of one scene beside its K sources.

    Grey images are float32 holding the integers 0..255 exactly.  What is said of each source and
    each fused image has the leading axes (K, M); what belongs to sources alone (K, 1), to fused
    images alone (1, M), so that they broadcast.  Lives within one trace; all is computed when first
    asked for.

    Attributes:
      sources: grey `(K, 1, H, W)`.
      fused: grey `(1, M, H, W)`.
      stack: sources and fused images, `(K + M, H, W)`.
      fused_rgb: `(M, H, W, 3)` as given, or None where only grey is looked at.
      clean_rgb: `(H, W, 3)`, or None where nobody knows the clean image.
    """

    def __init__(
        self,
        sources: jax.Array,
        fused: jax.Array,
        fused_rgb: jax.Array | None = None,
        clean_rgb: jax.Array | None = None,
    ):
        """`sources` are grey `(K, H, W)` and `fused` `(M, H, W)`."""
        self.stack = jnp.concatenate([sources, fused])
        self.sources, self.fused = sources[:, None], fused[None]
        self.fused_rgb, self.clean_rgb = fused_rgb, clean_rgb
        self._done: dict[Callable[[Comparison], Any], Any] = {}

    def once(self, function: "Callable[[Comparison], T]") -> T:
        """Returns `function(self)`, computed at the first call: what metrics of a family share."""
        if function not in self._done:
            self._done[function] = function(self)
        return self._done[function]

    def split(self, stack: Any) -> tuple[Any, Any]:
        """Splits what is known of `stack`, `(K + M, ...)`, into `(K, 1, ...)` and `(1, M, ...)`."""
        count = len(self.sources)
        return stack[:count, None], stack[None, count:]

    @functools.cached_property
    def centred(self) -> tuple[Centred, Centred]:
        """Sources and fused images as integers less the rounded mean of each."""
        return self.split(centred(self.stack.astype(jnp.int32)))

    @functools.cached_property
    def joint_histograms(self) -> jax.Array:
        """Counts of level pairs, `(K, M, 256, 256)` float32: rows source, columns fused image."""
        return joint_histogram(self.sources, self.fused)

    @functools.cached_property
    def sobel(self) -> tuple[jax.Array, jax.Array]:
        """Responses of `stack` to the right and down, zeros beyond the borders, `(K + M, H, W)`."""
        return sobel(self.stack)

    @functools.cached_property
    def windows(self) -> tuple[Windows, Windows]:
        """Sources and fused images under SSIM's window."""
        return self.split(Windows(self.stack, SSIM_WINDOW))

    @functools.cached_property
    def covariances(self) -> jax.Array:
        """Of each source with each fused image under SSIM's window, `(K, M, H - 10, W - 10)`."""
        sources, fused = self.windows
        return sources.covariance(fused)

    @functools.cached_property
    def half(self) -> "Comparison":
        """At half the size, by means of 2 x 2 pixels; a last odd row or column is doubled first."""
        height, width = self.stack.shape[1:]
        borders = [(0, 0), (0, height % 2), (0, width % 2)]
        stack = jnp.pad(self.stack, borders, mode="edge")
        rows = stack[:, ::2] + stack[:, 1::2]
        stack = (rows[..., ::2] + rows[..., 1::2]) / 4
        count = len(self.sources)
        return Comparison(stack[:count], stack[count:])
