"""The region that is drawn on the page: a brush over the first image.

The drawing is made in the browser on a smaller copy of the image, and comes back as a mask of the
copy's size.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import SourceRanges, encode_image, resize_image
from ditfuse_jax.serve.uploads import decode_mask, decode_upload

_SIDE = 1024  # pixels of the longer side of the copy that is drawn on
_PNG = "data:image/png;base64,"
_MOST_CHARACTERS = 8 << 20  # of a mask; one of two colours and a million pixels has far less
NAME = "region.png"  # of the mask, as commands name it


def start(path: str | None, pixels: int) -> dict[str, str]:
    """Returns the value with which the brush starts over an image.

    Args:
      path: of the image; None, or a file that is no image, takes the brush away.
      pixels: larger images are not decoded.
    """
    if path is None:
        return {"image": ""}
    try:
        loaded = decode_upload(Path(path).read_bytes(), Path(path).name, pixels)
        image = SourceRanges([(loaded,)], quiet=True).read(loaded, 0)
    except (UserError, OSError):  # said when the button is pressed
        return {"image": ""}
    scale = _SIDE / max(image.shape[:2])
    if scale < 1:
        image = resize_image(image, *(max(1, round(side * scale)) for side in image.shape[:2]))
    data = base64.b64encode(encode_image(image, "shown.jpg")).decode()
    return {"image": f"data:image/jpeg;base64,{data}"}


def drawn_mask(value: Any, size: tuple[int, int], pixels: int) -> np.ndarray | None:
    """Returns what was drawn as a mask, uint8 (H, W), 255 there; None if nothing was.

    Args:
      value: of the component, as the browser sends it.
      size: (H, W) of the first image.
      pixels: of a mask at most.

    Raises:
      UserError: the value is no drawing.
    """
    text = value.get("mask") if isinstance(value, dict) else None
    if not text:
        return None
    bad = UserError("the drawn region could not be read: clear it and draw it again")
    if not isinstance(text, str) or not text.startswith(_PNG) or len(text) > _MOST_CHARACTERS:
        raise bad
    try:
        mask = decode_mask(base64.b64decode(text[len(_PNG) :], validate=True), NAME, pixels)
    except (binascii.Error, UserError) as error:
        raise bad from error
    return mask if mask.shape == size else resize_image(mask, *size)
