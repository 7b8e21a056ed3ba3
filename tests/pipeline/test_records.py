"""Files of records as a source: training sees their images and prompts."""

import json

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import DataPipeline, ExampleEncoder, MixtureComponent, open_source
from ditfuse_jax.prompts import (
    Record,
    TextSlots,
    encode_prompt,
    load_tokenizer,
    task_prompt,
    write_records,
)
from ditfuse_jax.tasks import PromptedImages
from ditfuse_jax.train import load_recipe, resolve

SLOTS = TextSlots(32, 16, 80)


@pytest.fixture
def file(tmp_path):
    """Three samples of flat images: sources 10k + 1 and 10k + 2, target 10k."""
    (tmp_path / "images").mkdir()
    records = []
    for k in (1, 2, 3):
        names = [f"images/{k}-{part}.png" for part in (1, 2, 0)]
        for part, name in zip((1, 2, 0), names, strict=True):
            write_image(tmp_path / name, np.full((40, 48, 3), 10 * k + part, np.uint8))
        prompt = task_prompt("FUSION", None, f"Make number {k}.")
        records.append(Record(prompt, (names[0], names[1]), names[2]))
    write_records(tmp_path / "train.jsonl", records)
    return tmp_path / "train.jsonl"


def change(file, line, **fields):
    lines = file.read_text().splitlines()
    lines[line - 1] = json.dumps(json.loads(lines[line - 1]) | fields)
    file.write_text("\n".join(lines))


def test_an_element_is_the_sources_the_target_and_their_prompt(file):
    source = open_source(f"records:{file}")
    assert (len(source), source.num_images) == (3, 3)
    assert list(source.names) == ["1-0-1", "2-0-2", "3-0-3"]
    assert [int(image.max()) for image in source[1]] == [21, 22, 20]
    element = source[1]
    assert isinstance(element, PromptedImages)
    assert element.prompt.endswith("Make number 2.")


def test_paths_may_be_relative_to_another_folder(file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "train.jsonl")
    with pytest.raises(UserError, match=r"line 1 names .*1-1\.png, which is missing"):
        open_source(f"records:{moved}")
    source = open_source(f"records:{moved}@{tmp_path}")
    assert [int(image.max()) for image in source[2]] == [31, 32, 30]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.processes)])
def test_batches_hold_each_record_s_own_prompt_and_images(file, workers):
    component = MixtureComponent(f"records:{file}", "records")
    pipeline = DataPipeline([component], (32, 32), 6, 0, ExampleEncoder(SLOTS), workers)
    batches = pipeline.batches()
    try:
        batch = next(batches)
    finally:
        batches.close()
    numbers = batch["target"][:, 0, 0, 0] // 10
    assert set(numbers) == {1, 2, 3}
    for row, number in enumerate(numbers):
        assert batch["images"][row, :, 0, 0, 0].tolist() == [10 * number + 1, 10 * number + 2]
        prompt = task_prompt("FUSION", None, f"Make number {number}.")
        expected = encode_prompt(load_tokenizer(), prompt, 2, SLOTS)
        np.testing.assert_array_equal(batch["tokens"][row], expected.tokens)


def test_a_recipe_trains_on_them(file):
    words = [
        f"--config.data.mixture.photos.source=records:{file}",
        "--config.data.mixture.photos.task=records",
        "--config.data.crop=(32, 32)",
        "--config.data.batch_size=3",
    ]
    batches = resolve(load_recipe("nano_m3", words)).data.batches()
    try:
        assert next(batches)["images"].shape == (3, 2, 32, 32, 3)
    finally:
        batches.close()


def test_three_sources_take_the_task_for_three(file):
    prompt = task_prompt("FUSION", None, "Fuse all.", 3)
    names = ("images/1-1.png", "images/1-2.png", "images/2-1.png")
    write_records(file, [Record(prompt, names, "images/1-0.png")])
    component = MixtureComponent(f"records:{file}", "records_3")
    pipeline = DataPipeline([component], (32, 32), 1, 0, ExampleEncoder(SLOTS))
    batches = pipeline.batches()
    assert next(batches)["images"][0, :, 0, 0, 0].tolist() == [11, 12, 21]
    batches.close()
    wrong = DataPipeline(
        [MixtureComponent(f"records:{file}", "records")], (32, 32), 1, 0, ExampleEncoder(SLOTS)
    )
    with pytest.raises(UserError, match=r"'records' takes 3 image\(s\) at a time.* has 4"):
        wrong.examples()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output_image": "images/lost.png"}, r"names .*lost\.png, which is missing"),
        ({"input_images": [], "instruction": "plums"}, "has no input images"),
        (
            {"input_images": ["images/1-1.png"], "instruction": "<|image_1|>"},
            r"has 1 input image\(s\) and line 1 has 2",
        ),
        ({"instruction": "<|image_1|><|image_2|><|image_1|>"}, "places an image twice"),
        ({"instruction": ""}, "as its instruction"),
    ],
)
def test_an_unusable_record_is_refused_with_file_and_line(file, fields, message):
    change(file, 2, **fields)
    with pytest.raises(UserError, match=rf"train\.jsonl line 2.*{message}") as raised:
        open_source(f"records:{file}")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl cannot be read"):
        open_source(f"records:{tmp_path / 'none.jsonl'}")
