"""The input of a metric: the images, and intermediate results that several metrics share."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.borders import cleared, extended
from ditfuse_jax.evaluate.metrics.gradients import sobel
from ditfuse_jax.evaluate.metrics.histograms import joint_histogram
from ditfuse_jax.evaluate.metrics.sums import Centred, Size, centred, count, integer_mean, mean
from ditfuse_jax.evaluate.metrics.windows import Windows, gaussian_window

T = TypeVar("T")

SSIM_WINDOW = gaussian_window(11, sigma=1.5)


class Comparison:
    """M fused images of one scene beside its K sources.

    Grey images are float32 with the exact integers 0..255.  Values of source and fused image pairs
    have the leading axes (K, M), those of sources (K, 1), those of fused images (1, M), so that
    they broadcast.  An instance lives within one trace and computes its properties on first use.

    The images may be larger than the scene, padded with zeros on the right and at the bottom, so
    that scenes of many sizes share a program.  Metrics marked `padded` ignore the padding: they
    take means with the methods of this class, and read beyond a border only where zeros belong.

    Attributes:
      sources: grey `(K, 1, H, W)`.
      fused: grey `(1, M, H, W)`.
      stack: sources and fused images, `(K + M, H, W)`.
      fused_rgb: `(M, H, W, 3)` as given, or None where only grey is needed.
      clean_rgb: `(H, W, 3)`, or None without a clean image.
      size: height and width of the scene, or None where the images have no padding.
      prepared: metric -> what its `Metric.prepare` returned, padded too; empty without padding.
    """

    def __init__(
        self,
        sources: jax.Array,
        fused: jax.Array,
        fused_rgb: jax.Array | None = None,
        clean_rgb: jax.Array | None = None,
        size: Size = None,
        prepared: Mapping[str, Any] | None = None,
    ):
        """`sources` are grey `(K, H, W)` and `fused` `(M, H, W)`."""
        self.stack = jnp.concatenate([sources, fused])
        self.sources, self.fused = sources[:, None], fused[None]
        self.fused_rgb, self.clean_rgb, self.size = fused_rgb, clean_rgb, size
        self.prepared = prepared or {}
        self._done: dict[Callable[[Comparison], Any], Any] = {}

    def once(self, function: "Callable[[Comparison], T]") -> T:
        """Returns `function(self)`, computed once: for work that metrics of a family share."""
        if function not in self._done:
            self._done[function] = function(self)
        return self._done[function]

    def split(self, stack: Any) -> tuple[Any, Any]:
        """Splits values of `stack`, `(K + M, ...)`, into `(K, 1, ...)` and `(1, M, ...)`."""
        sources = len(self.sources)
        return stack[:sources, None], stack[None, sources:]

    def mean(self, maps: jax.Array) -> jax.Array:
        """Returns the mean over the scene of maps `(..., h, w)`, which a window may have shrunk."""
        return mean(maps, self._size_of(maps))

    def integer_mean(self, maps: jax.Array) -> jax.Array:
        """Returns the same as `mean`, for int32."""
        return integer_mean(maps, self._size_of(maps))

    def count(self, maps: jax.Array) -> jax.Array | int:
        """Returns how many pixels of such maps belong to the scene."""
        return count(maps, self._size_of(maps))

    def _size_of(self, maps: jax.Array) -> Size:
        if self.size is None:
            return None
        (full_height, full_width), (height, width) = self.stack.shape[-2:], maps.shape[-2:]
        return self.size[0] - (full_height - height), self.size[1] - (full_width - width)

    @functools.cached_property
    def centred(self) -> tuple[Centred, Centred]:
        """Sources and fused images as integers minus the rounded mean of each image."""
        return self.split(centred(self.stack.astype(jnp.int32), self.size))

    @functools.cached_property
    def joint_histograms(self) -> jax.Array:
        """Counts of level pairs, `(K, M, 256, 256)` float32: rows source, columns fused image."""
        return joint_histogram(self.sources, self.fused, self.size)

    @functools.cached_property
    def sobel(self) -> tuple[jax.Array, jax.Array]:
        """Horizontal and vertical responses of `stack`, zero-padded, each `(K + M, H, W)`."""
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
        """The images at half the size: means of 2 x 2 pixels, odd sides padded by repetition."""
        stack, size = extended(self.stack, 1, "edge", self.size)[:, 1:, 1:], self.size
        # The last pixels, odd or even, are followed by one that repeats them.
        height, width = (side // 2 * 2 for side in stack.shape[1:])
        rows = stack[:, :height:2, :width] + stack[:, 1:height:2, :width]
        stack = (rows[..., ::2] + rows[..., 1::2]) / 4
        size = size and ((size[0] + 1) // 2, (size[1] + 1) // 2)
        stack, count = cleared(stack, size), len(self.sources)
        return Comparison(stack[:count], stack[count:], size=size)
