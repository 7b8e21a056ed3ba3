import numpy as np
import pytest

from ditfuse_jax.images import is_grey, limit_chroma, with_depth


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def grey(seed):
    luma = np.random.default_rng(seed).integers(0, 256, (24, 32, 1), dtype=np.uint8)
    return np.repeat(luma, 3, axis=-1)


def luma(image):
    return image @ np.array([0.299, 0.587, 0.114])


def chroma(image):
    difference = image[..., ::2] - luma(image)[..., None]
    return np.hypot(*np.moveaxis(difference, -1, 0))


@pytest.mark.parametrize("relative", [False, True])
def test_grey_sources_give_a_grey_image_of_the_same_luma(image, relative):
    limited = limit_chroma(image, [grey(1), grey(2)], relative=relative)
    assert is_grey(limited)
    assert np.abs(luma(limited) - luma(image)).max() <= 0.51


def test_an_image_is_unchanged_beside_a_source_of_the_same_chroma(image):
    np.testing.assert_array_equal(limit_chroma(image, [grey(1), image]), image)


def test_chroma_is_at_most_the_largest_of_the_sources_nearby_and_keeps_its_hue():
    source = np.full((9, 9, 3), (120, 100, 90), np.uint8)
    image = np.full((9, 9, 3), (200, 90, 40), np.uint8)
    limited = limit_chroma(image, [source, np.full_like(source, 50)])
    assert chroma(limited).max() <= chroma(source).max() + 1
    assert (chroma(limited) > chroma(source).max() - 1).all()
    ratio = (limited[..., 0] - luma(limited)) / (limited[..., 2] - luma(limited))
    expected = (200 - luma(image)) / (40 - luma(image))
    np.testing.assert_allclose(ratio, expected, rtol=0.15)


def test_relative_chroma_may_grow_with_the_luma():
    source = np.full((9, 9, 3), (60, 50, 45), np.uint8)
    brighter = source * 2
    np.testing.assert_array_equal(limit_chroma(brighter, [source], relative=True), brighter)
    assert chroma(limit_chroma(brighter, [source])).max() <= chroma(source).max() + 1


def test_one_coloured_pixel_beside_a_place_is_enough():
    source, image = grey(1), grey(2)
    source[10, 10] = (200, 20, 20)
    image[10, 11] = (150, 80, 80)
    image[10, 13] = (150, 80, 80)
    limited = limit_chroma(image, [source])
    np.testing.assert_array_equal(limited[10, 11], image[10, 11])
    assert is_grey(limited[10, 13])


@pytest.mark.parametrize("relative", [False, True])
def test_sixteen_bits_are_limited_like_eight(image, relative):
    sources = [grey(1), np.roll(image, 5, axis=1) // 2 + 60]
    shallow = limit_chroma(image, sources, relative=relative)
    deep = limit_chroma(with_depth(image, 16), sources, relative=relative)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - shallow).max() <= 0.51
    assert (shallow != image).any()


def test_strips_leave_no_trace(image, monkeypatch):
    sources = [np.roll(image, 5, axis=1) // 2 + 60, grey(1)]
    whole = limit_chroma(image, sources)
    monkeypatch.setattr("ditfuse_jax.images.chroma._STRIP", 5)
    np.testing.assert_array_equal(limit_chroma(image, sources), whole)
