"""Images that clients send.

They are decoded from memory, by the content alone: names and paths of clients are never used.
"""

import cv2
import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import LoadedImage
from ditfuse_jax.images.decode import decode_image, decode_samples, open_bytes
from ditfuse_jax.images.samples import check_one_frame, load_upright


def decode_upload(data: bytes, name: str, pixels: int) -> LoadedImage:
    """Decodes an image.

    Args:
      data: the file's bytes.
      name: what messages and metadata call it.
      pixels: more are refused by the header, before anything is decoded.

    Raises:
      UserError: no image, damaged, or too large.
    """
    return LoadedImage(decode_samples(data, name, max_pixels=pixels), name)


def decode_mask(data: bytes, name: str, pixels: int, *, transparent: bool = False) -> np.ndarray:
    """Decodes the mask of a region, uint8 (H, W), 255 where the request applies.

    A mask that is white there has the greys that `ditfuse fuse --region` reads from the same file.

    Args:
      data, name, pixels: see `decode_upload`.
      transparent: the request applies where the image is transparent, as in OpenAI's API, not where
        it is white.

    Raises:
      UserError: no image, damaged or too large; or without transparency, if it counts.
    """
    if not transparent:
        return cv2.cvtColor(decode_image(data, name, max_pixels=pixels), cv2.COLOR_RGB2GRAY)
    with open_bytes(data, name, max_pixels=pixels) as image:
        check_one_frame(image, name)
        load_upright(image)
        if not image.has_transparency_data:
            raise UserError(f"{name}: has no transparent part: make it transparent where to edit")
        return 255 - np.array(image.convert("RGBA"))[..., 3]
