import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.images.decode import decode_samples


@pytest.fixture(scope="session")
def pictures():
    spec = importlib.util.spec_from_file_location(
        "pictures", Path(__file__).with_name("pictures.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def encoded():
    def encode(image, image_format, **options):
        stream = io.BytesIO()
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(stream, image_format, **options)
        return stream.getvalue()

    return encode


@pytest.fixture(scope="session")
def level():
    """The greatest difference of decoded samples and an expected picture from 0 to 1."""

    def difference(data, expected):
        values = decode_samples(data, "x").values
        top = {"uint8": 255, "uint16": 65535, "float32": 1}[values.dtype.name]
        if values.ndim == 3 and expected.ndim == 2:
            expected = np.repeat(expected[..., None], 3, axis=2)
        assert values.shape == expected.shape
        return np.abs(values.astype(np.float64) / top - expected).max()

    return difference
