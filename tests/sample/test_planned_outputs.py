"""Which files are written, from which sources and with which prompts."""

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import write_image
from ditfuse_jax.prompts import INSTRUCTION_POOLS
from ditfuse_jax.sample import read_prompts
from ditfuse_jax.sample.folder_job import find_inputs
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.planned_outputs import check_not_written, plan_outputs
from ditfuse_jax.sample.standard_prompts import CONTROL_TASKS, standard_prompt

PLACED = "<|image_2|> then <|image_1|>"


@pytest.fixture
def pair(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        write_image(path, np.zeros((4, 4, 3), np.uint8))
    return paths


@pytest.fixture
def folder(tmp_path):
    for side in ("image1", "image2", "image3"):
        (tmp_path / "in" / side).mkdir(parents=True)
        for name in ("x", "y"):
            write_image(tmp_path / "in" / side / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
    return tmp_path / "in"


def paths(planned):
    return [output.path for output in planned]


class TestPlan:
    """`plan_outputs`."""

    def test_a_pair_and_a_prompt_give_one_file(self, pair, tmp_path):
        (planned,) = plan_outputs(pair, tmp_path / "out.JPG", ["Brighter."], "fuse")
        assert planned.path == tmp_path / "out.JPG"
        assert planned.sources == tuple(pair)
        assert planned.instruction.prompt.startswith("[FUSION]. This is the first image")
        assert planned.instruction.prompt.endswith("Brighter.")

    def test_a_further_file_of_the_job_is_none_of_its_images(self, pair, tmp_path):
        planned = plan_outputs(pair, tmp_path / "out", ["One.", "Two."], "fuse")
        with pytest.raises(UserError, match=r"a-2\.png is one of the fused images: choose another"):
            check_not_written(tmp_path / "out" / ".." / "out" / "a-2.png", planned)
        check_not_written(tmp_path / "out" / "rig.json", planned)

    def test_several_prompts_give_numbered_files_in_a_folder(self, pair, tmp_path):
        planned = plan_outputs(pair, tmp_path / "out", ["One.", PLACED, "Three."], "fuse")
        assert paths(planned) == [tmp_path / "out" / f"a-{k}.png" for k in (1, 2, 3)]
        assert planned[1].instruction.prompt == PLACED

    def test_a_single_image_may_be_written_into_an_existing_folder(self, pair, tmp_path):
        (tmp_path / "out").mkdir()
        assert paths(plan_outputs(pair, tmp_path / "out", [], "fuse")) == [
            tmp_path / "out" / "a.png"
        ]

    def test_a_folder_of_stacks_gives_a_file_for_each_name_and_prompt(self, folder, tmp_path):
        planned = plan_outputs([folder], tmp_path / "out", ["One.", "Two."], "fuse")
        assert [path.name for path in paths(planned)] == [
            *("x-1.png", "x-2.png"),
            *("y-1.png", "y-2.png"),
        ]
        assert [path.parent.name for path in planned[0].sources] == ["image1", "image2", "image3"]
        assert "<|image_3|>" in planned[0].instruction.prompt

    def test_an_input_is_never_overwritten(self, pair, folder, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path)
        for inputs, output in (
            (pair, pair[1]),
            (pair, tmp_path),
            (pair, tmp_path / "link" / "a.png"),
            ([folder], folder / "image2"),
        ):
            with pytest.raises(UserError, match="is one of the images to fuse"):
                plan_outputs(inputs, output, [], "fuse")

    def test_the_source_of_another_stack_is_never_overwritten(self, folder, tmp_path):
        for side in ("image1", "image2", "image3"):
            (folder / side / "sub").mkdir()
            write_image(folder / side / "sub" / "x.png", np.zeros((4, 4, 3), np.uint8))
        inputs = find_inputs([folder], recursive=True)
        assert sorted(inputs.found.stacks) == ["sub/x", "x", "y"]
        with pytest.raises(UserError, match=r"sub.x\.png is one of the images to fuse"):
            plan_outputs(inputs, folder / "image1" / "sub", [], "fuse")

    def test_an_output_in_a_folder_that_is_searched_is_refused(self, folder):
        """Its images would be taken as images without a partner the next time."""
        inputs = find_inputs([folder], recursive=True)
        with pytest.raises(UserError, match="whose folders are searched too"):
            plan_outputs(inputs, folder / "image2" / "out", [], "fuse")
        assert plan_outputs([folder], folder / "image2" / "out", [], "fuse")

    @pytest.mark.parametrize("name", ["out", "out.gif", "out.png.txt"])
    def test_an_output_without_an_image_suffix_is_refused(self, pair, tmp_path, name):
        with pytest.raises(UserError, match=f"{name}: no image format has the suffix"):
            plan_outputs(pair, tmp_path / name, [], "fuse")

    def test_several_images_are_not_written_to_a_file(self, pair, folder, tmp_path):
        (tmp_path / "file.png").write_text("")
        for inputs, prompts in ((pair, ["One.", "Two."]), ([folder], [])):
            with pytest.raises(UserError, match=r"file\.png is a file"):
                plan_outputs(inputs, tmp_path / "file.png", prompts, "fuse")

    @pytest.mark.parametrize("prompt", ["", "  "])
    def test_an_empty_prompt_is_refused(self, pair, tmp_path, prompt):
        with pytest.raises(UserError, match="instruction is empty"):
            plan_outputs(pair, tmp_path / "out.png", [prompt], "fuse")


@pytest.mark.parametrize(
    ("task", "tags"),
    [
        ("fuse", "[FUSION]. This"),
        ("ivif", "[FUSION]. <MULTI-MODALITIES>. This"),
        ("mff", "[FUSION]. <MULTI-FOCUS>. This"),
        ("mef", "[FUSION]. <MULTI-EXPOSURE>. This"),
        ("light++", "[CONTROL]. <LIGHT++>. This"),
        ("contrast-", "[CONTROL]. <CONTRAST->. This"),
        ("segment:car", "[SEG]. This"),
        ("segment", "[SEG]. This"),
    ],
)
def test_the_task_determines_the_tags(task, tags):
    assert standard_prompt(task, 2).startswith(tags)
    assert standard_prompt(task, 2, "Join.").startswith(tags)


def test_the_sentence_of_a_control_task_follows_a_fusion_sentence_as_in_training():
    fusion, light = (INSTRUCTION_POOLS.find(name).sentences[0] for name in ("fusion", "light_plus"))
    assert standard_prompt("light+", 2).endswith(f"{fusion.rstrip('.')}. {light}")
    assert standard_prompt("light+", 2, "A bit more sun.").endswith(". A bit more sun.")
    assert {*CONTROL_TASKS} == {"light++", "light+", "light-", "light--", "contrast+", "contrast-"}


def test_the_class_is_inserted_into_the_sentence():
    assert " car" in standard_prompt("segment:car", 2)
    assert standard_prompt("segment:red car", 2, "Where is a {class}?").endswith("a red car?")


def test_a_full_prompt_is_not_changed():
    whole = "<img><|image_2|></img> over <img><|image_1|></img>, darker"
    for task in ("fuse", "light-", "segment:sky"):
        assert standard_prompt(task, 2, whole) == whole


@pytest.mark.parametrize("task", ["nap", "segment:", "segment: ", "light", "fuse:car"])
def test_an_unknown_task_is_refused_with_the_known_ones(task):
    with pytest.raises(UserError, match=r"fuse, ivif.*light\+\+.*segment:car"):
        standard_prompt(task, 2)


class TestReadPrompts:
    """`read_prompts`."""

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
    def test_one_prompt_per_line_in_order(self, tmp_path, mark, end):
        text = end.join(["# remark", "Schärfer.", "", "  明るく  "])
        (tmp_path / "p.txt").write_bytes(mark + text.encode())
        assert read_prompts(tmp_path / "p.txt") == ["Schärfer.", "明るく"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"ok\n\xff\n", r"p\.txt is not UTF-8 \(byte 3\)"),
            (b"", "holds no prompt"),
            (b"\n#x\n \n", "holds no prompt"),
            (None, r"cannot read the prompts in .*p\.txt: No such file"),
        ],
    )
    def test_a_file_without_prompts_is_refused_by_name(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "p.txt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_prompts(tmp_path / "p.txt")


class TestInstruction:
    """`make_instruction`: nothing that was asked for is left out without a word."""

    TAUGHT = SamplingConfig(requests="brightness,segment")

    def test_a_class_that_the_model_was_not_taught_is_refused_with_the_known_ones(self):
        with pytest.raises(UserError, match="not taught the class 'zebra': choose from sky, build"):
            make_instruction(None, 2, self.TAUGHT, "segment:zebra")
        for known in ("segment:road and cars", "segment:sidewalk", "segment"):
            assert make_instruction(None, 2, self.TAUGHT, known).prompt.startswith("[SEG]")

    def test_a_model_that_reads_sentences_may_know_any_class(self):
        assert "zebra" in make_instruction(None, 2, SamplingConfig(), "segment:zebra").prompt

    def test_a_task_whose_tag_a_full_prompt_leaves_out_is_refused(self):
        for task in ("light+", "segment:car"):
            with pytest.raises(UserError, match="has no effect: the prompt places the images"):
                make_instruction(PLACED, 2, SamplingConfig(), task)
        with pytest.raises(UserError, match="standard task 'nap' is unknown"):
            make_instruction(PLACED, 2, SamplingConfig(), "nap")
        assert make_instruction(PLACED, 2, SamplingConfig(), "mff").prompt == PLACED
