"""Contact sheets: positions and contents of tiles and titles."""

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.contact_sheet import contact_sheet, write_sheet
from ditfuse_jax.images import read_image

RED, GREEN, BLUE = (200, 0, 0), (0, 180, 0), (0, 0, 220)


def flat(colour: tuple[int, int, int], height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def extent(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the area of one colour."""
    ys, xs = np.nonzero((sheet == colour).all(axis=-1))
    left, top = int(xs.min()), int(ys.min())
    return left, top, int(xs.max()) - left + 1, int(ys.max()) - top + 1


def test_tiles_have_equal_sizes_and_a_thin_gap():
    sheet = contact_sheet(
        [[flat(RED), flat(GREEN, 80, 120), flat(BLUE, 10, 15)]], ["a", "b", "c"], tile_width=90
    )
    assert sheet.dtype == np.uint8
    red, green, blue = (extent(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert red[2:] == green[2:] == blue[2:] == (90, 60)
    assert red[1] == green[1] == blue[1]
    gaps = green[0] - red[0] - 90, blue[0] - green[0] - 90
    assert gaps[0] == gaps[1] and 0 < gaps[0] < 10


def test_pictures_keep_their_proportions():
    sheet = contact_sheet([[flat(RED)], [flat(GREEN, 60, 30)]], ["a"], ["x", "y"], tile_width=90)
    red, green = extent(sheet, RED), extent(sheet, GREEN)
    assert red[2:] == (90, 60) and green[2:] == (90, 180)
    assert red[0] == green[0] and red[1] + 60 < green[1]


def test_titles_are_drawn_above_columns_and_beside_rows():
    rows = [[flat(RED), flat(GREEN)]]
    bare, titled = contact_sheet(rows, ["", ""]), contact_sheet(rows, ["View A", "Fused"])
    left, top, width, _ = extent(titled, RED)
    assert (bare[:top] == bare[0, 0]).all()
    ink = (titled != titled[0, 0]).any(axis=-1)
    assert ink[:top, left : left + width].any()
    labelled = contact_sheet(rows, ["", ""], ["scene 1"])
    left, top, _, height = extent(labelled, RED)
    assert (labelled != labelled[0, 0]).any(axis=-1)[top : top + height, :left].any()


def test_long_titles_stay_within_their_tile():
    sheet = contact_sheet([[flat(RED), flat(GREEN)]], ["w" * 300, ""], ["m" * 300], tile_width=100)
    (left, top, width, _), (right, *_) = extent(sheet, RED), extent(sheet, GREEN)
    ink = (sheet != sheet[0, 0]).any(axis=-1)
    assert not ink[:top, right:].any() and ink[:top, left : left + width].any()
    assert left < 100


def test_a_picture_at_its_own_width_is_copied_exactly():
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    sheet = contact_sheet([[picture]], ["noise"], tile_width=64)
    left, top, *_ = extent(contact_sheet([[flat(RED, 48, 64)]], ["noise"], tile_width=64), RED)
    np.testing.assert_array_equal(sheet[top : top + 48, left : left + 64], picture)


def test_small_pictures_are_enlarged_pixel_by_pixel():
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0], picture[0, 1], picture[1, 0] = RED, GREEN, BLUE
    sheet = contact_sheet([[picture]], ["pixels"], tile_width=80)
    assert extent(sheet, RED)[2:] == extent(sheet, GREEN)[2:] == extent(sheet, BLUE)[2:] == (40, 40)


def test_a_zoom_is_outlined_and_shown_enlarged_below():
    picture = flat(RED, 60, 80)
    picture[15:30, 20:40] = BLUE
    plain = contact_sheet([[picture]], ["a"], tile_width=80)
    sheet = contact_sheet([[picture]], ["a"], tile_width=80, zoom=(0.25, 0.25, 0.5, 0.5))
    below = sheet[plain.shape[0] - 10 :]
    assert extent(below, BLUE)[2:] == (80, 60)
    left, top, *_ = extent(plain, RED)
    outline = (sheet != plain[: len(sheet)][0, 0]).any(axis=-1)
    assert outline[top + 15, left + 20 : left + 40].all()
    assert tuple(sheet[top + 15, left + 25]) not in (RED, BLUE)


def test_a_written_sheet_equals_the_drawn_one(tmp_path):
    rows = [[flat(RED), flat(GREEN)]]
    write_sheet(tmp_path / "sheet.png", rows, ["a", "b"], ["x"])
    np.testing.assert_array_equal(
        read_image(tmp_path / "sheet.png"), contact_sheet(rows, ["a", "b"], ["x"])
    )
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([], ["a"]), "at least one row"),
        (([[flat(RED)], [flat(RED)] * 2], ["a"]), "row 2 has 2 pictures for 1 column titles"),
        (([[flat(RED)]], ["a"], ["x", "y"]), "1 rows but 2 row titles"),
        (([[flat(RED)[..., 0]]], ["a"]), "row 1, a: expected a uint8 array"),
    ],
)
def test_bad_arguments_are_refused_with_the_reason(arguments, message):
    with pytest.raises(UserError, match=message):
        contact_sheet(*arguments)


@pytest.mark.parametrize("zoom", [(0.5, 0, 0.5, 1), (0, 0, 1.2, 1), (-0.1, 0, 1, 1)])
def test_a_zoom_outside_the_picture_is_refused(zoom):
    with pytest.raises(UserError, match="fractions of the picture"):
        contact_sheet([[flat(RED)]], ["a"], zoom=zoom)
