"""Lists of images: their files are read, errors name the line."""

import json

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.pipeline.prepare import prepare


@pytest.fixture
def images(tmp_path):
    """`vi/0.png` to `vi/2.png` and `ir/...`, each of one grey: 0 to 2 and 10 to 12."""
    for folder, start in (("vi", 0), ("ir", 10)):
        (tmp_path / folder).mkdir()
        for k in range(3):
            write_image(tmp_path / folder / f"{k}.png", np.full((4, 5, 3), start + k, np.uint8))
    return tmp_path


def listed(path, text):
    path.write_text(text, encoding="utf-8")
    return f"manifest:{path}"


LISTS = {
    "pairs.csv": "vi/0.png,ir/0.png\n\nvi/2.png, ir/2.png\n",
    "pairs.tsv": "vi/0.png\tir/0.png\r\nvi/2.png\tir/2.png",
    "pairs.jsonl": '["vi/0.png", "ir/0.png"]\n{"images": ["vi/2.png", "ir/2.png"]}\n',
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_every_format_name_the_same_pairs(images, name):
    source = open_source(listed(images / name, LISTS[name]))
    assert source.names == ["vi-0", "vi-2"] and source.num_images == 2
    assert [[int(image[0, 0, 0]) for image in pair] for pair in source] == [[0, 10], [2, 12]]


def test_names_absolute_paths_quotes_and_a_byte_order_mark_are_understood(images):
    line = json.dumps({"name": "dusk", "images": [str(images / "vi" / "1.png")]})
    assert open_source(listed(images / "a.jsonl", line)).names == ["dusk"]
    (images / "vi" / "a, b.png").write_bytes((images / "vi" / "1.png").read_bytes())
    (images / "q.csv").write_bytes(b'\xef\xbb\xbf"vi/a, b.png"\n')
    assert open_source(f"manifest:{images / 'q.csv'}").names == ["vi-a, b"]


def test_a_list_is_packed_like_a_folder(images, tmp_path):
    source = listed(images / "pairs.csv", LISTS["pairs.csv"])
    assert prepare(source, tmp_path / "packed", quiet=True).num_images == 2


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("l.csv", "vi/0.png\nvi/9.png\n", r"l\.csv line 2: .*vi/9\.png: no such file"),
        ("l.csv", "vi/0.png,ir/0.png\n\nvi/1.png\n", "line 3: 1 image.* the first line has 2"),
        ("l.csv", "vi/0.png\nvi/0.png\n", "line 2: the name vi-0 occurs twice"),
        ("l.csv", "vi/0.png,\n", "line 1: an empty path"),
        ("l.csv", 'vi/0.png\n"vi/1.png\n', "line 2: "),
        ("l.tsv", "vi/0.png,ir/0.png\n", "line 1: .*no such file"),
        ("l.jsonl", '["vi/0.png"]\n{"images": ', "line 2: not JSON"),
        ("l.jsonl", '{"image": ["vi/0.png"]}', "line 1: needs"),
        ("l.jsonl", '[["vi/0.png"]]', "line 1: needs"),
        ("l.jsonl", "[]", "line 1: needs"),
        ("l.jsonl", '{"name": 3, "images": ["vi/0.png"]}', "line 1: needs"),
        ("l.jsonl", '{"name": "a/b", "images": ["vi/0.png"]}', "line 1: the name a/b holds a /"),
        ("l.csv", "\n \n", "lists no images"),
        ("l.txt", "vi/0.png\n", "ends in .csv, .tsv or .jsonl"),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(images, name, text, problem):
    with pytest.raises(UserError, match=problem) as raised:
        open_source(listed(images / name, text))
    assert "\n" not in str(raised.value) and name in str(raised.value)


def test_an_unreadable_list_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        open_source(f"manifest:{tmp_path}/none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        open_source(f"manifest:{tmp_path}/b.csv")
