import io

import numpy as np
import pytest
import tifffile

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import image_size
from ditfuse_jax.images.decode import decode_samples

pytest.importorskip("rawpy")

# XYZ to linear sRGB (IEC 61966-2-1): the colours of a camera that sees as sRGB does.
MATRIX = [3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570]
HEIGHT, WIDTH = 64, 96


def dng(colour, orientation=1):
    """A DNG of a scene of one linear colour, with the filters red, green / green, blue."""
    red, green, blue = (round(1000 * value) for value in colour)
    mosaic = np.tile(np.array([[red, green], [green, blue]], np.uint16), (HEIGHT // 2, WIDTH // 2))
    stream = io.BytesIO()
    rationals = [part for value in MATRIX for part in (round(value * 10_000), 10_000)]
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),  # DNGVersion
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, (0, 1, 1, 2), True),  # CFAPattern
        (50708, "s", 0, "A camera", True),  # UniqueCameraModel
        (50717, "I", 1, 1000, True),  # WhiteLevel
        (50721, "2i", 9, rationals, True),  # ColorMatrix1
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
        (274, "H", 1, orientation, True),
    ]
    tifffile.imwrite(stream, mosaic, photometric="cfa", extratags=tags, metadata=None)
    return stream.getvalue()


def test_a_raw_file_is_developed_in_sixteen_bits():
    colour = np.array([0.2, 0.4, 0.1])
    samples = decode_samples(dng(colour), "x")
    middle = samples.values[HEIGHT // 2, WIDTH // 2] / 65535
    expected = 1.055 * colour ** (1 / 2.4) - 0.055
    assert samples.values.shape == (HEIGHT, WIDTH, 3) and samples.full_range
    assert np.abs(middle - expected).max() <= 0.03
    assert "developed" in samples.notes[0]


def test_a_raw_file_is_turned_upright(tmp_path):
    data = dng((0.2, 0.4, 0.1), orientation=6)
    assert decode_samples(data, "x").values.shape == (WIDTH, HEIGHT, 3)
    (tmp_path / "x.dng").write_bytes(data)
    assert image_size(tmp_path / "x.dng") == (WIDTH, HEIGHT)


def test_a_damaged_raw_file_is_one_line():
    data = dng((0.2, 0.4, 0.1))
    with pytest.raises(UserError, match="x: "):
        decode_samples(data[: len(data) // 2], "x")
