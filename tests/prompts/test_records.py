"""OmniGen's JSONL: read and written unchanged, errors with file and line."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import MAX_IMAGES, Record, read_records, write_records

TWO = "Blend <img><|image_1|></img> with <img><|image_2|></img>."
GOOD = {"instruction": TWO, "input_images": ["a.png", "b.png"], "output_image": "c.png"}


def test_lines_of_omnigen_are_written_back_byte_for_byte(tmp_path):
    text = (
        '{"task_type": "text_to_image", "instruction": "A bowl of plums", "input_images": [], '
        '"output_image": "plums.jpg"}\n'
        '{"task_type": "image_edit", "instruction": "<img><|image_1|></img> Add a hat.", '
        '"input_images": ["in/dog.png"], "output_image": "out/dog.png"}\n'
        '{"instruction": "<img><|image_2|></img> near <img><|image_1|></img>, größer", '
        '"input_images": ["/data/1.png", "2.png"], "output_image": "3.png"}\n'
    )
    (tmp_path / "in.jsonl").write_text(text, encoding="utf-8")
    records = read_records(tmp_path / "in.jsonl")
    assert [len(record.input_images) for record in records] == [0, 1, 2]
    assert records[1].others == {"task_type": "image_edit"}
    write_records(tmp_path / "out.jsonl", records)
    assert (tmp_path / "out.jsonl").read_bytes() == text.encode()


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def any_record(draw):
    count = draw(st.integers(0, MAX_IMAGES))
    numbers = draw(st.permutations(range(1, count + 1)))
    text = "go " + "".join(f"{draw(words)}<img><|image_{n}|></img>" for n in numbers)
    paths = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
    return Record(
        text,
        tuple(draw(paths) for _ in range(count)),
        draw(paths.filter(str.strip)),
        draw(st.dictionaries(words.map("x_{}".format), words | st.integers() | st.none())),
    )


@given(st.lists(any_record(), min_size=1, max_size=4))
def test_any_records_are_read_as_written(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "any.jsonl"
    write_records(path, records)
    assert read_records(path) == records
    assert path.read_text(encoding="utf-8").count("\n") == len(records)


def test_no_images_may_also_be_written_as_null(tmp_path):
    path = tmp_path / "null.jsonl"
    path.write_text(json.dumps(GOOD | {"instruction": "plums", "input_images": None}))
    assert read_records(path)[0].input_images == ()


def test_paths_are_below_the_root_unless_absolute():
    record = Record(TWO, ("a/1.png", "/b/2.png"), "3.png")
    assert record.files(Path("/root")) == (
        *(Path("/root/a/1.png"), Path("/b/2.png"), Path("/root/3.png")),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[1]", "is not an object"),
        (GOOD | {"instruction": " "}, "' ' as its instruction: write text"),
        (GOOD | {"instruction": 3}, "3 as its instruction"),
        (GOOD | {"output_image": None}, "None as its output_image"),
        (GOOD | {"input_images": "a.png"}, "'a.png' as its input_images: list paths"),
        (GOOD | {"input_images": ["a.png", ""]}, "as its input_images: list paths"),
        (GOOD | {"input_images": ["a.png"]}, "places <|image_2|> but the number of images is 1"),
        (GOOD | {"input_images": []}, "places <|image_1|> but the number of images is 0"),
        (GOOD | {"instruction": "Blend."}, "does not place image 1 of 2"),
        ({k: v for k, v in GOOD.items() if k != "output_image"}, "lacks the field 'output_image'"),
        (GOOD | {"instruction": TWO + 3 * "<|image_1|>"}, "places 5 images"),
    ],
)
def test_a_line_that_is_not_a_record_is_refused_with_file_and_line(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    line = line if isinstance(line, str) else json.dumps(line)
    path.write_text("\n".join([json.dumps(GOOD), line, json.dumps(GOOD)]), encoding="utf-8")
    with pytest.raises(UserError, match=rf"bad\.jsonl line 2\b.*{re.escape(message)}") as raised:
        read_records(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"\n\n", "holds no records"), (b'{"\xff"', "is not UTF-8")],
)
def test_a_file_without_records_is_refused_with_its_path(tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.jsonl {message}"):
        read_records(path)


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    write_records(path, [Record("plums", (), "a.png")])
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        write_records(path, [Record("pears", (), "b.png")])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl"]
