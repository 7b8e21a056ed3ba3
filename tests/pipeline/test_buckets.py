"""Aspect-ratio buckets: one shape per batch, few shapes, the same batches for all hosts."""

import dataclasses

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent, open_source
from ditfuse_jax.pipeline.buckets import assign_buckets, nearest_bucket
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.pipeline.prepare import prepare
from ditfuse_jax.prompts import TextSlots

SHAPES = ((32, 32), (24, 40), (40, 24))
# Wide pictures are red, tall ones green, square ones blue.
SIZES = {"red": (48, 80), "green": (80, 48), "blue": (60, 60)}
COUNTS = {"red": 6, "green": 2, "blue": 4}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for channel, (colour, size) in enumerate(SIZES.items()):
        for i in range(COUNTS[colour]):
            image = np.zeros((*size, 3), np.uint8)
            image[..., channel] = 100 + i
            write_image(folder / f"{colour}{i}.png", image)
    return folder


@pytest.fixture
def pipeline(photos):
    encoder = ExampleEncoder(TextSlots(24, 12, 48))
    return DataPipeline(
        [MixtureComponent(str(photos), "m3")], (32, 32), 4, 0, encoder, buckets=SHAPES
    )


def take(batches, count):
    found = [next(batches) for _ in range(count)]
    batches.close()
    return found


def assert_equal(one, other):
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_batch_has_one_shape_and_pictures_of_that_aspect(pipeline):
    channel_of = {(24, 40): 0, (40, 24): 1, (32, 32): 2}
    shapes = []
    for batch in take(pipeline.batches(), 12):
        shape = batch["target"].shape[1:3]
        assert batch["images"].shape[2:4] == shape
        assert set(np.argmax(batch["target"].mean(axis=(1, 2)), axis=1)) == {channel_of[shape]}
        shapes.append(shape)
    # As often as there are pictures for them: 6, 2 and 4 of 12.
    assert [shapes.count(shape) for shape in ((24, 40), (40, 24), (32, 32))] == [6, 2, 4]


@pytest.mark.parametrize("hosts", [2, 4])
def test_several_hosts_together_read_the_batches_of_one(pipeline, hosts):
    whole = take(pipeline.batches(start=2), 6)
    parts = [take(pipeline.batches(start=2, host=h, num_hosts=hosts), 6) for h in range(hosts)]
    for step, batch in enumerate(whole):
        joined = {name: np.concatenate([part[step][name] for part in parts]) for name in batch}
        assert_equal(joined, batch)


@pytest.mark.processes
def test_worker_processes_change_nothing(pipeline):
    worked = take(dataclasses.replace(pipeline, workers=2).batches(), 4)
    for one, other in zip(worked, take(pipeline.batches(), 4), strict=True):
        assert_equal(one, other)


def test_packed_data_falls_into_the_same_buckets_as_the_files(pipeline, photos, tmp_path):
    prepare(str(photos), tmp_path / "packed", quiet=True)
    packed = dataclasses.replace(
        pipeline, mixture=[MixtureComponent(str(tmp_path / "packed"), "m3")]
    )
    for one, other in zip(take(packed.batches(), 4), take(pipeline.batches(), 4), strict=True):
        assert_equal(one, other)


def test_sizes_are_read_without_decoding(photos, tmp_path, monkeypatch):
    files = open_source(str(photos))
    prepare(str(photos), tmp_path / "packed", quiet=True)
    packed = open_source(str(tmp_path / "packed"))
    assert isinstance(packed, PackedSource)
    expected = [image.shape[:2] for (image,) in files]
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert [files.size(k) for k in range(len(files))] == expected
    assert [packed.size(k) for k in range(len(packed))] == expected


def test_a_shape_without_pictures_has_no_batches(pipeline):
    wide = dataclasses.replace(pipeline, buckets=(*SHAPES, (8, 320)))
    assert {batch["target"].shape[1:3] for batch in take(wide.batches(), 12)} == set(SHAPES)


class OfSizes:
    """A source of which only the sizes are known."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def size(self, index):
        return self.sizes[index]


def test_nearness_is_by_ratio_in_both_directions():
    assert nearest_bucket((100, 200), ((10, 10), (10, 30), (30, 10))) == 1
    assert nearest_bucket((200, 100), ((10, 10), (10, 30), (30, 10))) == 2
    assert assign_buckets(OfSizes([(9, 9), (1, 9), (8, 9)]), [(1, 1), (1, 8)]) == [[0, 2], [1]]


def test_weights_of_a_mixture_are_kept_within_and_across_buckets(pipeline, photos, tmp_path):
    for i in range(3):  # black, wide
        write_image(tmp_path / f"{i}.png", np.zeros((48, 80, 3), np.uint8))
    mixture = [MixtureComponent(str(photos), "m3", 1.0), MixtureComponent(str(tmp_path), "m3", 1.0)]
    batches = take(dataclasses.replace(pipeline, mixture=mixture).batches(), 48)
    black = sum(int((~batch["target"].any(axis=(1, 2, 3))).sum()) for batch in batches)
    assert abs(black / (48 * 4) - 0.5) < 0.02


def test_packed_crops_have_their_own_size(pipeline, photos, tmp_path):
    prepare(str(photos), tmp_path / "packed", quiet=True)
    manifest = (tmp_path / "packed" / "manifest.json").read_text()
    changed = manifest.replace('"moments": null', '"moments": [4, 4, 8]')
    (tmp_path / "packed" / "manifest.json").write_text(changed)
    with pytest.raises(UserError, match=r"holds crops of 48x80 .* data\.crop=\(48, 80\)"):
        dataclasses.replace(
            pipeline, mixture=[MixtureComponent(str(tmp_path / "packed"), "m3")]
        ).examples()
