"""Fits images of any size to the model's patch grid, and its outputs back to the original size."""

import dataclasses

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Canvas:
    """The sizes of an image on its way to the model, each `(height, width)` in pixels.

    Attributes:
      native: the original size.
      scaled: after downscaling; equal to `native` if the image is not downscaled.
      padded: after padding at the bottom and right; the model's input size.
    """

    native: tuple[int, int]
    scaled: tuple[int, int]
    padded: tuple[int, int]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Returns a `native` image (H, W, 3) as (h, w, 3) of size `padded`, uint8 or uint16."""
        _check_size(image, self.native)
        if self.scaled != self.native:
            height, width = self.scaled
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        bottom, right = (p - s for p, s in zip(self.padded, self.scaled, strict=True))
        # "symmetric" repeats the edge pixel, so it works for images of one pixel; a padding longer
        # than the image is reflected repeatedly.
        return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="symmetric")

    def undo(self, output: np.ndarray) -> np.ndarray:
        """Returns a model output `(h, w, 3)` of size `padded` at the `native` size `(H, W, 3)`.

        The type (float32, float64, uint8 or uint16) is kept.  Upscaling is cubic, clipped to the
        range of the output's values.
        """
        _check_size(output, self.padded)
        output = output[: self.scaled[0], : self.scaled[1]]
        if self.scaled == self.native:
            return output.copy()
        height, width = self.native
        resized = cv2.resize(
            np.ascontiguousarray(output), (width, height), interpolation=cv2.INTER_CUBIC
        )
        return np.clip(resized, output.min(), output.max())


def fit_canvas(height: int, width: int, *, multiple: int, max_side: int | None) -> Canvas:
    """Returns the canvas of an image whose sides are padded to multiples of `multiple`.

    If the longer side exceeds `max_side`, the image is downscaled to it first; padding may then add
    up to `multiple - 1` pixels.
    """
    long_side = max(height, width)
    scale = 1.0 if max_side is None or long_side <= max_side else max_side / long_side
    scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
    padded = (_round_up(scaled[0], multiple), _round_up(scaled[1], multiple))
    return Canvas(native=(height, width), scaled=scaled, padded=padded)


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _check_size(image: np.ndarray, size: tuple[int, int]) -> None:
    if image.shape != (*size, 3):
        raise ValueError(f"expected an array {(*size, 3)}, got {image.shape}")
