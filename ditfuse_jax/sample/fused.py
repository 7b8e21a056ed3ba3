"""A fused image and how it was made."""

import base64
import dataclasses
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ditfuse_jax.images import (
    ImageSource,
    ValueRange,
    encode_image,
    is_deep_format,
    resize_image,
    with_depth,
    write_image,
)
from ditfuse_jax.images.in_memory import LoadedImage
from ditfuse_jax.paths import as_path
from ditfuse_jax.sample.instructions import Instruction, remarks

if TYPE_CHECKING:
    import PIL.Image

    from ditfuse_jax.sample.stack_fuser import StackFuser

_NOTES = "notes"  # name in the metadata
_SHOWN_WIDTH = 320  # pixels of each image in a notebook


@dataclasses.dataclass(frozen=True, eq=False)
class Fused:
    """A fused image.

    In a notebook it shows itself beside its sources.

    Attributes:
      image: RGB (H, W, 3), uint8; uint16 if a source has more than 8 bits.
      sources: the images it was made from, aligned and of its size, uint8 or uint16 (H, W, 3).
      prompt: the full prompt that the model got.
      understood: what the sentence was understood as, such as `brightness +1` or `nothing`; None
        if there was none, or if the model reads sentences itself.
      left_out: what the sentence asks for and nobody can do, with the reason; empty if none.
      applied: the requests that image operations did, since the model was not taught them; empty if
        none.
      settings: the sampling settings, name -> value.
      metadata: what `save` records: prompt, sources, checkpoint, settings.
      notes: what is to be known of how the sources were read, such as `image 2: its transparent
        parts are put over black`; empty if nothing.
    """

    image: np.ndarray
    sources: tuple[np.ndarray, ...]
    prompt: str
    understood: str | None
    left_out: str
    applied: str
    settings: dict[str, Any]
    metadata: dict[str, str]

    @property
    def notes(self) -> str:
        """See the attributes."""
        return self.metadata.get(_NOTES, "")

    @property
    def remarks(self) -> str:
        """What image operations did and what was left out, in one line; or ""."""
        return remarks(self.understood, self.applied, self.left_out)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the image with its metadata, as `ditfuse fuse` does; returns the path.

        Formats without 16 bits (JPEG, WebP, BMP) get 8.

        Raises:
          UserError: see `images.write_image`.
        """
        path = as_path(path)
        image = self.image if is_deep_format(path) else with_depth(self.image, 8)
        write_image(path, image, self.metadata)
        return path

    def encode(self, suffix: str = ".png") -> bytes:
        """Returns the bytes of the file that `save` writes in the format of this suffix."""
        path = Path(f"fused{suffix}")
        image = self.image if is_deep_format(path) else with_depth(self.image, 8)
        return encode_image(image, path, self.metadata)

    def pil(self) -> "PIL.Image.Image":
        """Returns the image for Pillow, with 8 bits per channel, which is what Pillow holds."""
        from PIL import Image

        return Image.fromarray(with_depth(self.image, 8))

    def to_float(self) -> np.ndarray:
        """Returns float32 (H, W, 3), black 0 and white 1."""
        return self.image.astype(np.float32) / np.float32(np.iinfo(self.image.dtype).max)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        understood = "" if self.understood is None else f", understood: {self.understood}"
        return f"Fused({width}x{height}, {self.image.dtype}{understood})"

    def _repr_png_(self) -> bytes:
        return encode_image(with_depth(self.image, 8), "fused.png")

    def _repr_html_(self) -> str:
        images = [(f"source {k}", image) for k, image in enumerate(self.sources, start=1)]
        cells = "".join(map(_figure, *zip(*images, ("fused", self.image), strict=True)))
        lines = [] if self.understood is None else [f"understood: {self.understood}"]
        lines += filter(None, (self.remarks, self.notes))
        text = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>{text}'


def image_metadata(
    instruction: Instruction,
    sources: Sequence[ImageSource],
    fuser: "StackFuser",
    *,
    ranges: Mapping[int, ValueRange] | None = None,
    alignment: str | None = None,
    region: str | None = None,
    computed: tuple[int, int] | None = None,
    roles: str = "",
    notes: str = "",
) -> dict[str, str]:
    """Returns what a fused image records.

    Args:
      instruction: the prompt and what it was understood as.
      sources: files or images; their names are recorded.
      fuser: whose model's name and sampling settings are recorded.
      ranges: source -> the sample values that became black and white, of those that were measured.
      alignment: see `StackReader.alignment`.
      region: where the request applies; see `Regions.description`.
      computed: (height, width), if it was computed smaller and enlarged.
      roles: see `FusionInput.source_roles`.
      notes: see `StackReader.notes`.
    """
    stretched = ranges or {}
    metadata = {"Software": "ditfuse_jax", "prompt": instruction.prompt}
    if instruction.understood is not None:
        metadata["understood"] = instruction.understood
        if instruction.applied:
            metadata["by image operations"] = instruction.applied
        if instruction.left_out:
            metadata["left_out"] = instruction.left_out
    metadata["sources"] = ", ".join(map(_name, sources))
    metadata |= {f"range of image {k + 1}": str(stretched[k]) for k in sorted(stretched)}
    if notes:
        metadata[_NOTES] = notes
    metadata["checkpoint"] = fuser.trained.name
    metadata |= {name: str(value) for name, value in fuser.sampling.to_dict().items()}
    if alignment:
        metadata["alignment"] = alignment
    if region is not None:
        metadata["region"] = region
    if roles:
        metadata["source roles"] = roles
    if computed:
        metadata["computed at"] = f"{computed[1]}x{computed[0]}"
    return metadata


def _name(source: ImageSource) -> str:
    return Path(str(source) if isinstance(source, LoadedImage) else source).name


def _figure(label: str, image: np.ndarray) -> str:
    height, width = image.shape[:2]
    if width > _SHOWN_WIDTH:
        image = resize_image(image, max(1, round(height * _SHOWN_WIDTH / width)), _SHOWN_WIDTH)
    data = base64.b64encode(encode_image(with_depth(image, 8), f"{label}.png")).decode()
    return (
        f'<figure style="margin:0"><img alt="{label}" src="data:image/png;base64,{data}">'
        f"<figcaption>{label}</figcaption></figure>"
    )
