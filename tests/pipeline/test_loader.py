"""The training data: the same examples for any number of hosts and workers."""

import contextlib
import dataclasses
import threading

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.extensions import load_extensions
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import (
    SAMPLES,
    DataPipeline,
    ExampleEncoder,
    MixtureComponent,
    fixed_batch,
    open_source,
)
from ditfuse_jax.prompts import CONDITION_DROPPED, TextSlots, encode_prompt, load_tokenizer

SLOTS = TextSlots(24, 12, 48)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(5):
        write_image(folder / f"{i}.png", rng.integers(0, 256, (48, 40, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def pipeline(photos):
    return DataPipeline(
        [MixtureComponent(str(photos), "m3")], (32, 32), 8, 0, ExampleEncoder(SLOTS)
    )


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def take(batches, count):
    return [next(batches) for _ in range(count)]


def test_a_batch_holds_what_the_model_takes(pipeline):
    batch = next(pipeline.batches())
    assert batch["images"].shape == (8, 2, 32, 32, 3)
    assert batch["images"].dtype == batch["target"].dtype == np.uint8
    assert batch["tokens"].shape == batch["token_valid"].shape == (8, 24 + 12 + 48)
    assert batch["image_valid"].all()


@pytest.mark.parametrize("hosts", [2, 4])
def test_several_hosts_together_read_the_batches_of_one(pipeline, hosts):
    whole = take(pipeline.batches(), 3)
    parts = [take(pipeline.batches(host=h, num_hosts=hosts), 3) for h in range(hosts)]
    for step, batch in enumerate(whole):
        joined = {name: np.concatenate([part[step][name] for part in parts]) for name in batch}
        assert_equal(joined, batch)


def test_a_host_may_hold_a_single_example_of_the_batch(pipeline):
    pair = dataclasses.replace(pipeline, batch_size=2)
    halves = [next(pair.batches(start=3, host=h, num_hosts=2)) for h in (0, 1)]
    joined = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
    assert_equal(joined, next(pair.batches(start=3)))


def test_starting_at_a_position_equals_reading_up_to_it(pipeline):
    sixth = take(pipeline.batches(), 6)[-1]
    assert_equal(next(pipeline.batches(start=5)), sixth)


@pytest.mark.processes
def test_worker_processes_change_nothing(pipeline):
    batches = dataclasses.replace(pipeline, workers=2).batches(start=1)
    try:
        read = take(batches, 2)
    finally:
        batches.close()
    for one, other in zip(read, take(pipeline.batches(start=1), 2), strict=True):
        assert_equal(one, other)


EXTENSION = """
import dataclasses

import numpy as np

from ditfuse_jax.degrade import DEGRADATIONS
from ditfuse_jax.pipeline.sources import SOURCES
from ditfuse_jax.tasks import TASKS, Example


@DEGRADATIONS.register("invert_of_a_test")
def invert(block, rng):
    return 255 - block, {}


@SOURCES.register("flat_of_a_test")
class Flat:
    num_images = 1

    def __init__(self, argument):
        self.level, self.names = int(argument), ["0", "1"]

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (np.full((32, 32, 3), self.level, np.uint8),)

    def size(self, index):
        return 32, 32


@TASKS.register("copy_of_a_test")
@dataclasses.dataclass(frozen=True)
class Copy:
    shift: int = 0
    num_images: int = dataclasses.field(default=1, init=False)

    def __call__(self, images, rng, crop):
        return Example((images[0],), "Copy <img><|image_1|></img>.", images[0] + self.shift)
"""


@pytest.mark.processes
def test_workers_use_the_tasks_sources_and_degradations_of_an_extension(pipeline, tmp_path):
    file = tmp_path / "extension_of_the_loader.py"
    file.write_text(EXTENSION)
    load_extensions([str(file)])
    inverted = "m3:degradations=invert_of_a_test,block_sides=32,overlap_fraction=1"
    mixture = [
        MixtureComponent("flat_of_a_test:40", {"name": "copy_of_a_test", "shift": 3}),
        MixtureComponent("flat_of_a_test:50", inverted),
    ]
    for component, source, target in ((mixture[0], 40, 43), (mixture[1], 205, 50)):
        alone = dataclasses.replace(pipeline, mixture=[component], workers=1)
        with contextlib.closing(alone.batches()) as batches:
            batch = next(batches)
        assert (batch["images"] == source).all() and (batch["target"] == target).all()


def test_epochs_and_seeds_give_new_examples(pipeline):
    first, again = pipeline.examples()[0], pipeline.examples()[5]
    assert (first["images"] != again["images"]).any()
    other = dataclasses.replace(pipeline, seed=1).examples()[0]
    assert (first["images"] != other["images"]).any()


@pytest.mark.medium
def test_a_dropped_condition_is_the_text_cfg_and_no_image(pipeline):
    encoder = ExampleEncoder(SLOTS, condition_dropout=0.25)
    batch = fixed_batch(dataclasses.replace(pipeline, encoder=encoder), 400)
    dropped = ~batch["image_valid"].any(axis=1)
    assert 0.18 < dropped.mean() < 0.33
    expected = encode_prompt(load_tokenizer(), CONDITION_DROPPED, 2, SLOTS)
    assert (batch["tokens"][dropped] == expected.tokens).all()
    assert (batch["token_valid"][dropped] == expected.valid).all()


def test_a_mixture_keeps_its_weights(pipeline, photos, tmp_path):
    write_image(tmp_path / "black.png", np.zeros((40, 40, 3), np.uint8))
    parts = [MixtureComponent(str(photos), "m3", 3.0), MixtureComponent(str(tmp_path), "m3", 1.0)]
    mixed = dataclasses.replace(pipeline, mixture=parts).examples()
    black = [not mixed[i]["target"].any() for i in range(80)]
    assert sum(black) == 20


def test_the_components_of_a_mixture_have_different_seeds(pipeline, photos):
    """Two components of one source show different examples, in another order of the images."""
    parts = [MixtureComponent(str(photos), "m3") for _ in range(2)]
    mixed = dataclasses.replace(pipeline, mixture=parts).examples()
    one, other = ([mixed[k]["target"] for k in range(first, 40, 2)] for first in (0, 1))
    equal = [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]
    assert not any(equal)


def test_the_first_component_of_a_mixture_reads_as_if_it_were_alone(pipeline, photos):
    alone = pipeline.examples()
    parts = [MixtureComponent(str(photos), "m3"), MixtureComponent(str(photos), "mff")]
    mixed = dataclasses.replace(pipeline, mixture=parts).examples()
    for k in range(5):
        assert_equal(mixed[2 * k], alone[k])


def test_thirty_components_use_no_more_threads_than_one(pipeline, photos):
    def threads(count):
        mixture = [MixtureComponent(str(photos), "m3", 1.0 + k) for k in range(count)]
        with contextlib.closing(
            dataclasses.replace(pipeline, mixture=mixture).batches()
        ) as batches:
            take(batches, 3)
            return threading.active_count()

    assert threads(30) == threads(1)


def test_the_sample_photographs_are_split_in_two():
    pytest.importorskip("skimage")
    train, heldout = open_source("samples:train"), open_source("samples:heldout")
    assert not set(train.names) & set(heldout.names)
    assert all(image.shape[2] == 3 for source in (train, heldout) for (image,) in source)
    assert set(SAMPLES) == {"train", "heldout"}


def test_stacks_are_read_together(tmp_path):
    for side in (1, 2):
        (tmp_path / f"image{side}").mkdir()
        write_image(tmp_path / f"image{side}" / "x.png", np.full((8, 8, 3), side, np.uint8))
    source = open_source(str(tmp_path))
    assert source.num_images == 2
    assert [int(image.max()) for image in source[0]] == [1, 2]


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (MixtureComponent("/nowhere", "m3"), "neither a folder nor one of samples"),
        (MixtureComponent("samples:all", "m3"), "samples:all is unknown"),
        (
            MixtureComponent("samples:train", "m3", 0.0),
            r"weight 0\.0 of source 'samples:train' must be",
        ),
        (MixtureComponent("samples:train", "m3", -1.0), "must be positive"),
        (MixtureComponent("samples:train", "paint"), "task 'paint' is unknown"),
        (MixtureComponent("samples:train", "ivif"), r"takes 2 image\(s\) at a time"),
    ],
)
def test_an_invalid_component_is_refused_by_name(pipeline, component, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(pipeline, mixture=[component]).examples()


def test_a_batch_that_does_not_divide_by_the_hosts_is_refused(pipeline):
    with pytest.raises(UserError, match="batch_size 8 does not divide by 3"):
        pipeline.batches(num_hosts=3)
