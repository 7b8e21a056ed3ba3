"""The training stream: the same examples for any number of hosts and workers."""

import contextlib
import dataclasses
import threading

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
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
def stream(photos):
    return DataPipeline(
        [MixtureComponent(str(photos), "m3")], (32, 32), 8, 0, ExampleEncoder(SLOTS)
    )


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def take(batches, count):
    return [next(batches) for _ in range(count)]


def test_a_batch_holds_what_the_model_takes(stream):
    batch = next(stream.batches())
    assert batch["images"].shape == (8, 2, 32, 32, 3)
    assert batch["images"].dtype == batch["target"].dtype == np.uint8
    assert batch["tokens"].shape == batch["token_valid"].shape == (8, 24 + 12 + 48)
    assert batch["image_valid"].all()


@pytest.mark.parametrize("hosts", [2, 4])
def test_several_hosts_together_read_the_batches_of_one(stream, hosts):
    whole = take(stream.batches(), 3)
    parts = [take(stream.batches(host=h, num_hosts=hosts), 3) for h in range(hosts)]
    for step, batch in enumerate(whole):
        joined = {name: np.concatenate([part[step][name] for part in parts]) for name in batch}
        assert_equal(joined, batch)


def test_a_host_may_hold_a_single_example_of_the_batch(stream):
    pair = dataclasses.replace(stream, batch_size=2)
    halves = [next(pair.batches(start=3, host=h, num_hosts=2)) for h in (0, 1)]
    joined = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
    assert_equal(joined, next(pair.batches(start=3)))


def test_starting_at_a_position_equals_reading_up_to_it(stream):
    sixth = take(stream.batches(), 6)[-1]
    assert_equal(next(stream.batches(start=5)), sixth)


@pytest.mark.processes
def test_worker_processes_change_nothing(stream):
    batches = dataclasses.replace(stream, workers=2).batches(start=1)
    try:
        read = take(batches, 2)
    finally:
        batches.close()
    for one, other in zip(read, take(stream.batches(start=1), 2), strict=True):
        assert_equal(one, other)


def test_epochs_and_seeds_give_new_examples(stream):
    first, again = stream.examples()[0], stream.examples()[5]
    assert (first["images"] != again["images"]).any()
    other = dataclasses.replace(stream, seed=1).examples()[0]
    assert (first["images"] != other["images"]).any()


def test_a_dropped_condition_is_the_text_cfg_and_no_image(stream):
    encoder = ExampleEncoder(SLOTS, condition_dropout=0.25)
    batch = fixed_batch(dataclasses.replace(stream, encoder=encoder), 400)
    dropped = ~batch["image_valid"].any(axis=1)
    assert 0.18 < dropped.mean() < 0.33
    expected = encode_prompt(load_tokenizer(), CONDITION_DROPPED, 2, SLOTS)
    assert (batch["tokens"][dropped] == expected.tokens).all()
    assert (batch["token_valid"][dropped] == expected.valid).all()


def test_a_mixture_keeps_its_weights(stream, photos, tmp_path):
    write_image(tmp_path / "black.png", np.zeros((40, 40, 3), np.uint8))
    parts = [MixtureComponent(str(photos), "m3", 3.0), MixtureComponent(str(tmp_path), "m3", 1.0)]
    mixed = dataclasses.replace(stream, mixture=parts).examples()
    black = [not mixed[i]["target"].any() for i in range(80)]
    assert sum(black) == 20


def test_thirty_sets_take_no_more_threads_than_one(stream, photos):
    def threads(count):
        mixture = [MixtureComponent(str(photos), "m3", 1.0 + k) for k in range(count)]
        with contextlib.closing(dataclasses.replace(stream, mixture=mixture).batches()) as batches:
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
    ("ingredient", "message"),
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
def test_a_wrong_ingredient_is_told_by_name(stream, ingredient, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(stream, mixture=[ingredient]).examples()


def test_a_batch_that_does_not_divide_by_the_hosts_is_refused(stream):
    with pytest.raises(UserError, match="batch_size 8 does not divide by 3"):
        stream.batches(num_hosts=3)
