"""What lies beyond the borders of images, which may themselves be padded to a shared size.

Programs are compiled for few sizes.  Images `(..., H, W)` of other sizes are padded with zeros on
the right and at the bottom, and `size` holds the rows and columns that belong to them.
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics.sums import Size, inside


def extended(images: jax.Array, width: int, mode: str, size: Size = None) -> jax.Array:
    """Pads both axes of images by `width` on both sides of what belongs to them.

    Args:
      images: `(..., H, W)`.
      width: pixels.
      mode: that of `jnp.pad`: "constant" with zeros, "edge", "reflect" (the border pixel is not
        repeated) or "symmetric" (it is).
      size: see above.  In "constant" mode the padding must be zeros already.

    Returns:
      `(..., H + 2 width, W + 2 width)`; the last `width` rows and columns of the images' own border
      follow directly after their last pixel.
    """
    for axis in (-2, -1):
        images = extended_along(images, width, mode, axis, size)
    return images


def extended_along(
    images: jax.Array, width: int, mode: str, axis: int, size: Size = None
) -> jax.Array:
    """Pads one axis, -2 or -1; see `extended`."""
    if size is None or mode == "constant":
        borders = [(0, 0)] * images.ndim
        borders[axis] = (width, width)
        return jnp.pad(images, borders, mode=mode)
    places = _places(jnp.arange(-width, images.shape[axis] + width), size[axis], mode)
    return jnp.take(images, places, axis=axis, mode="clip")


def _places(places: jax.Array, side: jax.Array, mode: str) -> jax.Array:
    """The pixel that is seen at each place, of `side` pixels."""
    if mode == "edge":
        return jnp.clip(places, 0, side - 1)
    # Mirrored again and again where the border is wider than the image, as in NumPy.
    period = 2 * side if mode == "symmetric" else jnp.maximum(2 * side - 2, 1)
    places = places % period
    mirrored = period - places - (1 if mode == "symmetric" else 0)
    return jnp.where(places < side, places, mirrored)


def cleared(images: jax.Array, size: Size) -> jax.Array:
    """Returns the images with zeros beyond their size."""
    return images if size is None else jnp.where(inside(images, size), images, 0)
