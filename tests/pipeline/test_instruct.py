"""Prompts for a list of images: drawn evenly, equal for equal seeds, errors for bad input."""

from collections import Counter

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.pipeline.instruct import prepare_instructions, read_image_list
from ditfuse_jax.prompts import instructions, join_instructions, read_records, task_prompt


@pytest.fixture
def images(tmp_path):
    """A list of three pairs with their targets, by relative paths; one line has tabs."""
    folder = tmp_path / "lists"
    for side in ("ir", "vis", "fused"):
        (folder / side).mkdir(parents=True)
        for k in range(3):
            write_image(folder / side / f"{k}.png", np.full((32, 32, 3), k, np.uint8))
    lines = ["# ir, vis, fused", *(f"ir/{k}.png, vis/{k}.png, fused/{k}.png" for k in (0, 1)), ""]
    (folder / "list.txt").write_text("\n".join([*lines, "ir/2.png\tvis/2.png\tfused/2.png"]))
    return folder / "list.txt"


def asked(records):
    return [record.instruction.split("</img>. ")[-1] for record in records]


def test_written_records_can_be_opened_as_a_source(images, tmp_path):
    output = tmp_path / "out" / "train.jsonl"
    records = prepare_instructions(["ivif"], images, output, per_image=2)
    assert read_records(output) == records
    assert records[0].output_image == "../lists/fused/0.png"
    source = open_source(f"records:{output}")
    assert [int(stack[2].max()) for stack in source] == [0, 0, 1, 1, 2, 2]
    assert [p.name for p in output.parent.iterdir()] == ["train.jsonl"]


def test_absolute_paths_stay_as_they_are(images, tmp_path):
    names = [str(images.parent / side / "0.png") for side in ("ir", "vis", "fused")]
    (tmp_path / "absolute.txt").write_text(",".join(names))
    (record,) = prepare_instructions(["ivif"], tmp_path / "absolute.txt", tmp_path / "o.jsonl")
    assert [*record.input_images, record.output_image] == names


def test_paths_are_valid_through_linked_folders(images, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    prepare_instructions(["ivif"], images, tmp_path / "link" / "o.jsonl")
    assert len(open_source(f"records:{tmp_path / 'link' / 'o.jsonl'}")) == 3


def test_equal_seeds_write_equal_bytes_and_others_do_not(images, tmp_path):
    files = [tmp_path / f"{k}.jsonl" for k in range(3)]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        prepare_instructions(["ivif", "fusion"], images, file, count=20, seed=seed)
    one, same, other = (file.read_bytes() for file in files)
    assert one == same != other


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_sentence_of_the_split_is_used_before_one_repeats(images, tmp_path, split):
    sentences = instructions("mff", heldout=split == "heldout")
    count = 2 * len(sentences)
    records = prepare_instructions(["mff"], images, tmp_path / "o.jsonl", split=split, count=count)
    assert Counter(asked(records)) == dict.fromkeys(sentences, 2)
    shown = Counter(record.output_image for record in records)
    assert len(shown) == 3 and max(shown.values()) - min(shown.values()) <= 1


def test_pools_are_used_in_turn_with_their_tags(images, tmp_path):
    records = prepare_instructions(["mff", "mef"], images, tmp_path / "o.jsonl", per_image=4)
    assert Counter(record.others["task_type"] for record in records) == {"mff": 6, "mef": 6}
    for record in records:
        group = record.others["task_type"]
        tag = {"mff": "MULTI-FOCUS", "mef": "MULTI-EXPOSURE"}[group]
        (sentence,) = asked([record])
        assert sentence in instructions(group)
        assert record.instruction == task_prompt("FUSION", tag, sentence)


def test_a_control_sentence_follows_a_fusion_sentence_of_its_split(images, tmp_path):
    output = tmp_path / "o.jsonl"
    for split in ("train", "heldout"):
        heldout = split == "heldout"
        records = prepare_instructions(["light_minus"], images, output, split=split, count=30)
        pairs = {
            join_instructions(fusion, control)
            for fusion in instructions("fusion", heldout=heldout)
            for control in instructions("light_minus", heldout=heldout)
        }
        assert set(asked(records)) <= pairs
        assert all(record.instruction.startswith("[CONTROL]. <LIGHT->. ") for record in records)


def test_the_class_is_named_in_every_sentence(images, tmp_path):
    records = prepare_instructions(
        ["segmentation"], images, tmp_path / "o.jsonl", count=60, class_name="lamp post"
    )
    assert all("lamp post" in sentence and "{" not in sentence for sentence in asked(records))


def test_a_pool_file_is_used_like_a_named_pool(images, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "group: mine\ntask: FUSION\ntrain:\n  task:\n    plain: [Only this.]\n"
        "heldout:\n  task:\n    plain: [Not this.]\n"
    )
    own = str(tmp_path / "mine.yaml")
    records = prepare_instructions([own], images, tmp_path / "o.jsonl")
    assert asked(records) == ["Only this."] * 3


@pytest.mark.parametrize(
    ("pools", "options", "message"),
    [
        (["fuse"], {}, "instruction pool 'fuse' is unknown; choose from"),
        (["nowhere/x.yaml"], {}, r"nowhere/x\.yaml cannot be read"),
        (["stack"], {}, "stack is for 3 or 4 source images"),
        (["segmentation"], {}, "segmentation needs the name of a class"),
        (["ivif"], {"split": "test"}, "split 'test' is unknown; choose from train, heldout"),
        (["ivif"], {"count": 0}, "count must be at least 1, not 0"),
        (["ivif"], {"per_image": -1}, "per_image must be at least 1, not -1"),
        (["ivif"], {"seed": -1}, "seed must be at least 0, not -1"),
        (["ivif"], {"count": 1, "per_image": 1}, "not both"),
    ],
)
def test_invalid_arguments_are_refused_and_nothing_is_written(
    images, tmp_path, pools, options, message
):
    with pytest.raises(UserError, match=message):
        prepare_instructions(pools, images, tmp_path / "out" / "o.jsonl", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ir/0.png", "line 6 must name sources and a target"),
        ("ir/0.png,,fused/0.png", "line 6 must name sources and a target"),
        ("ir/0.png,vis/9.png,fused/0.png", r"line 6 names .*vis/9\.png, which is missing"),
        ("ir/0.png,vis/0.png,ir/1.png,fused/0.png", "line 6 names 4 images, the lines before it 3"),
    ],
)
def test_an_invalid_line_of_the_list_is_refused_with_its_number(images, line, message):
    with images.open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(UserError, match=rf"list\.txt {message}"):
        read_image_list(images)


@pytest.mark.parametrize(
    ("content", "message"), [(b"# only\n", "names no images"), (b"\xff", "read")]
)
def test_a_list_without_images_is_refused_with_its_path(images, content, message):
    images.write_bytes(content)
    with pytest.raises(UserError, match=rf"list\.txt .*{message}"):
        read_image_list(images)


class TestCommand:
    """`ditfuse prepare --instructions`."""

    def test_it_writes_what_the_call_writes(self, images, tmp_path, capsys):
        words = ["--instructions", "ivif", "fusion", "--images", images, "--count", 8, "--seed", 3]
        words += ["--split", "heldout", "-o", tmp_path / "command.jsonl"]
        assert main(["prepare", *map(str, words)]) == 0
        assert "8 records with 8 prompts" in capsys.readouterr().out
        options = {"count": 8, "seed": 3, "split": "heldout"}
        prepare_instructions(["ivif", "fusion"], images, tmp_path / "call.jsonl", **options)
        written = [(tmp_path / f"{name}.jsonl").read_bytes() for name in ("command", "call")]
        assert written[0] == written[1]

    def test_the_list_itself_is_never_overwritten(self, images, capsys):
        before = images.read_bytes()
        words = ["--instructions", "ivif", "--images", images, "-o", images]
        assert main(["prepare", *map(str, words)]) == 2
        assert "is the list of images" in capsys.readouterr().err
        assert images.read_bytes() == before

    @pytest.mark.parametrize("missing", ["--images", "-o"])
    def test_the_error_names_the_missing_option(self, images, tmp_path, capsys, missing):
        options = {"--images": images, "-o": tmp_path / "o.jsonl"}
        del options[missing]
        words = [str(word) for pair in options.items() for word in pair]
        assert main(["prepare", *words, "--instructions", "ivif"]) == 2
        assert "takes pools, --images LIST and -o OUTPUT" in capsys.readouterr().err
