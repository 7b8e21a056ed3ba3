"""Contact sheets: rows of pictures under titles, e.g. view A, view B, fused, clean."""

import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import check_rgb, write_image

Box = tuple[float, float, float, float]

_BACKGROUND = (244, 244, 245)  # near-white grey: neutral to both dark and bright pictures
_INK, _FAINT, _MARK = (39, 39, 42), (113, 113, 122), (250, 204, 21)
_GAP, _MARGIN = 6, 16


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    *,
    tile_width: int = 320,
    zoom: Box | None = None,
) -> np.ndarray:
    """Draws pictures on a labelled grid.

    All tiles are `tile_width` wide, and the tiles of a row equally high.  Pictures are scaled to
    fit: downscaled with Lanczos, upscaled with nearest neighbour, so that pixels stay visible.

    Args:
      rows: uint8 RGB pictures `(H, W, 3)` of any sizes, every row as long as `column_titles`.
      column_titles: above the columns.
      row_titles: left of the rows, one for each; shortened to fit.
      tile_width: pixels.
      zoom: `(left, top, right, bottom)` as fractions of a picture's sides: this region is outlined
        and also shown enlarged below each picture.

    Returns:
      The sheet, uint8 `(height, width, 3)`.

    Raises:
      UserError: no pictures, ragged rows, titles that do not match, a zoom outside the picture.
    """
    _check(rows, column_titles, row_titles, zoom)
    strips = [[_fit(image, tile_width, zoom) for image in row] for row in rows]
    if zoom is not None:
        crops = [[_fit(_crop(image, zoom), tile_width, None) for image in row] for row in rows]
        strips = [strip for pair in zip(strips, crops, strict=True) for strip in pair]
    strips_per_row = len(strips) // len(rows)

    font = _font(tile_width)
    line = sum(font.getmetrics())
    labels = [_shorten(title, font, tile_width // 2) for title in row_titles or ()]
    label_width = max((math.ceil(font.getlength(label)) + _MARGIN for label in labels), default=0)
    left, top = _MARGIN + label_width, _MARGIN + line + _GAP
    heights = [max(tile.height for tile in strip) for strip in strips]
    width = left + len(column_titles) * (tile_width + _GAP) - _GAP + _MARGIN
    height = top + sum(heights) + _GAP * (len(strips) + len(rows) - 2) + _MARGIN
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)

    for column, title in enumerate(column_titles):
        x = left + column * (tile_width + _GAP) + tile_width // 2
        text = _shorten(title, font, tile_width)
        draw.text((x, _MARGIN), text, font=font, fill=_INK, anchor="ma")
    y = top
    for index, (strip, strip_height) in enumerate(zip(strips, heights, strict=True)):
        row, part = divmod(index, strips_per_row)
        if part == 0 and labels:
            middle = (_MARGIN, y + strip_height // 2)
            draw.text(middle, labels[row], font=font, fill=_FAINT, anchor="lm")
        for column, tile in enumerate(strip):
            x = left + column * (tile_width + _GAP)
            centred = (x + (tile_width - tile.width) // 2, y + (strip_height - tile.height) // 2)
            sheet.paste(tile, centred)
        y += strip_height + (2 * _GAP if part == strips_per_row - 1 else _GAP)
    return np.asarray(sheet)


def write_sheet(
    path: str | os.PathLike[str],
    rows: Sequence[Sequence[np.ndarray]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    *,
    tile_width: int = 320,
    zoom: Box | None = None,
) -> None:
    """Writes a `contact_sheet` atomically, in the format of the path's suffix.

    Raises:
      UserError: see `contact_sheet` and `ditfuse_jax.images.write_image`.
    """
    sheet = contact_sheet(rows, column_titles, row_titles, tile_width=tile_width, zoom=zoom)
    write_image(path, sheet)


def _check(
    rows: Sequence[Sequence[np.ndarray]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None,
    zoom: Box | None,
) -> None:
    if not rows or not column_titles:
        raise UserError("a contact sheet needs at least one row and one column of pictures")
    if row_titles is not None and len(row_titles) != len(rows):
        raise UserError(f"contact sheet: {len(rows)} rows but {len(row_titles)} row titles")
    for i, row in enumerate(rows):
        if len(row) != len(column_titles):
            raise UserError(
                f"contact sheet: row {i + 1} has {len(row)} pictures for {len(column_titles)}"
                " column titles"
            )
        for image, title in zip(row, column_titles, strict=True):
            check_rgb(image, f"contact sheet, row {i + 1}, {title}")
    if zoom is not None and not (0 <= zoom[0] < zoom[2] <= 1 and 0 <= zoom[1] < zoom[3] <= 1):
        raise UserError(
            f"zoom {zoom} is not (left, top, right, bottom) in fractions of the picture, 0 to 1"
        )


def _fit(image: np.ndarray, tile_width: int, zoom: Box | None) -> Image.Image:
    """Returns the picture at the tile's width, with the zoomed region outlined."""
    height, width = image.shape[:2]
    size = (tile_width, max(1, round(height * tile_width / width)))
    enlarged = tile_width > width
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    tile = Image.fromarray(image).resize(size, method)
    if zoom is not None:
        box = tuple(round(f * (size[i % 2] - 1)) for i, f in enumerate(zoom))
        ImageDraw.Draw(tile).rectangle(box, outline=_MARK, width=max(1, tile_width // 160))
    return tile


def _crop(image: np.ndarray, zoom: Box) -> np.ndarray:
    height, width = image.shape[:2]
    left, right = int(zoom[0] * width), max(int(zoom[0] * width) + 1, round(zoom[2] * width))
    top, bottom = int(zoom[1] * height), max(int(zoom[1] * height) + 1, round(zoom[3] * height))
    return image[top:bottom, left:right]


def _font(tile_width: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=min(24, max(11, tile_width // 18)))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UserError(
            "Pillow was built without FreeType and cannot draw labels: reinstall pillow"
        )
    return font


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
