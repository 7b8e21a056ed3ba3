"""Reading, resizing and writing images.

In memory an image is an RGB array (H, W, 3), uint8 or, where full depth is asked for, uint16; black
is 0 and white 255 or 65535, whatever the range of the file's samples was.
"""

from ditfuse_jax.images.chroma import is_grey, limit_chroma, unit_luma
from ditfuse_jax.images.decode import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    decode_image,
    image_size,
    list_images,
    read_image,
)
from ditfuse_jax.images.find_stacks import FoundStacks, find_stacks
from ditfuse_jax.images.formats import FORMATS, ImageFormat, OpenedFile
from ditfuse_jax.images.in_memory import LoadedImage, load_image
from ditfuse_jax.images.labels import decode_labels, read_labels
from ditfuse_jax.images.pairs import (
    check_same_size,
    files_by_stem,
    list_stacks,
    numbered_folders,
    paired_files,
)
from ditfuse_jax.images.ranges import ValueRange, parse_range
from ditfuse_jax.images.save import (
    WRITTEN_SUFFIXES,
    encode_image,
    is_deep_format,
    read_metadata,
    write_image,
)
from ditfuse_jax.images.size import Canvas, fit_canvas
from ditfuse_jax.images.source_ranges import ImageSource, RangeOption, SourceRanges
from ditfuse_jax.images.stack import check_same_aspect_ratio, read_stack, resize_image
from ditfuse_jax.images.values import (
    check_rgb,
    from_pixels,
    from_uint8,
    to_pixels,
    to_uint8,
    with_depth,
)

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "WRITTEN_SUFFIXES",
    "Canvas",
    "FoundStacks",
    "ImageFormat",
    "ImageSource",
    "LoadedImage",
    "OpenedFile",
    "RangeOption",
    "SourceRanges",
    "ValueRange",
    "check_rgb",
    "check_same_aspect_ratio",
    "check_same_size",
    "decode_image",
    "decode_labels",
    "encode_image",
    "files_by_stem",
    "find_stacks",
    "fit_canvas",
    "from_pixels",
    "from_uint8",
    "image_size",
    "is_deep_format",
    "is_grey",
    "limit_chroma",
    "list_images",
    "list_stacks",
    "load_image",
    "numbered_folders",
    "paired_files",
    "parse_range",
    "read_image",
    "read_labels",
    "read_metadata",
    "read_stack",
    "resize_image",
    "to_pixels",
    "to_uint8",
    "unit_luma",
    "with_depth",
    "write_image",
]
