"""`ditfuse fuse`: the files that it writes."""

import dataclasses

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import read_image, read_metadata, write_image

pytestmark = pytest.mark.medium

PLACED = "<img><|image_{}|></img> before <img><|image_{}|></img>: join them."


@pytest.fixture
def fuse(checkpoint, tmp_path):
    """Runs the command; returns the output image, or the output folder."""

    def run(*options, output="fused.png"):
        path = tmp_path / output
        command = ["fuse", *map(str, options), "-o", str(path), "--checkpoint", str(checkpoint)]
        assert main(command) == 0
        return read_image(path) if path.is_file() else path

    return run


def test_the_output_has_the_size_of_its_input(fuse, pair):
    assert fuse(*pair).shape == (37, 53, 3)
    assert fuse(*pair, "--max-side", 20).shape == (37, 53, 3)


def test_missing_folders_of_the_output_are_made(fuse, pair, tmp_path):
    assert fuse(*pair, output="a new/deep one/fused.webp").shape == (37, 53, 3)
    assert [path.name for path in (tmp_path / "a new" / "deep one").iterdir()] == ["fused.webp"]


def test_the_metadata_hold_prompt_checkpoint_and_sampling_settings(fuse, pair, tmp_path):
    fuse(*pair, "--task", "ivif", "--seed", 3, "--steps", 1, "--guidance-scale", 1.5)
    metadata = read_metadata(tmp_path / "fused.png")
    assert "[FUSION]. <MULTI-MODALITIES>. This is the first image" in metadata["prompt"]
    assert metadata["checkpoint"] == "tiny, step 2"
    assert (metadata["steps"], metadata["seed"], metadata["guidance_scale"]) == ("1", "3", "1.5")
    assert metadata["image_guidance_scale"] == "1.0"
    assert {field.name for field in dataclasses.fields(SamplingConfig)} <= set(metadata)


def test_the_seed_determines_the_noise(fuse, pair):
    # Without guidance the untrained model copies a source; with it the noise has an effect.
    options = (*pair, "--guidance-scale", 3.0, "--image-guidance-scale", 2.0)
    first, again, other = (fuse(*options, "--seed", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_pair_is_fused_alike_alone_and_in_a_folder(fuse, stacks):
    folder = fuse(stacks, output="all")
    assert sorted(path.name for path in folder.iterdir()) == ["one.png", "three.png", "two.png"]
    for name in ("one", "two"):
        alone = fuse(*(stacks / side / f"{name}.png" for side in ("image1", "image2")))
        np.testing.assert_array_equal(read_image(folder / f"{name}.png"), alone)
    together = fuse(stacks, "--batch-size", 2, output="together")
    for path in folder.iterdir():
        one, other = (read_image(f / path.name).astype(int) for f in (folder, together))
        assert abs(one - other).max() <= 1


def test_three_image_folders_are_fused_as_one_stack(fuse, stacks):
    (stacks / "image3").mkdir()
    for path in (stacks / "image1").iterdir():
        write_image(stacks / "image3" / path.name, read_image(path))
    folder = fuse(stacks, output="three")
    assert len(list(folder.iterdir())) == 3
    assert "<|image_3|>" in read_metadata(folder / "one.png")["prompt"]


def test_a_prompt_file_gives_a_numbered_file_per_prompt(fuse, pair, tmp_path):
    (tmp_path / "prompts.txt").write_text("Make it brighter.\n\n# a remark\nSchärfer, bitte.\n")
    folder = fuse(*pair, "--prompt-file", tmp_path / "prompts.txt", output="many")
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.png", "a-2.png"]
    assert read_metadata(folder / "a-2.png")["prompt"].endswith("Schärfer, bitte.")


def test_placeholders_determine_the_order_of_the_images(fuse, pair):
    # Without guidance: its branch of images alone has them in the given order.
    options = ("--guidance-scale", 1.0, "--image-guidance-scale", 1.0, "--prompt")
    swapped_in_prompt = fuse(*pair, *options, PLACED.format(2, 1))
    swapped_files = fuse(*reversed(pair), *options, PLACED.format(1, 2))
    # The prompts differ in the placeholders only, which become images and not tokens.
    np.testing.assert_array_equal(swapped_in_prompt, swapped_files)


@pytest.fixture
def job(checkpoint, tmp_path, capsys):
    """Runs the command on folders; returns its exit code, output and errors."""

    def run(*inputs, options=()):
        command = ["fuse", *map(str, inputs), "-o", str(tmp_path / "out")]
        code = main([*command, "--checkpoint", str(checkpoint), *options])
        return code, *capsys.readouterr()

    return run


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def test_a_folder_goes_on_past_a_damaged_pair_and_again_fuses_only_what_is_missing(
    job, stacks, tmp_path
):
    damaged, whole = stacks / "image2" / "three.png", None
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:60])
    code, _, errors = job(stacks)
    assert code == 2
    assert f"not fused: three: {damaged}: is damaged or truncated" in errors
    assert "1 of 3 could not be fused" in errors.splitlines()[-1]
    assert names(tmp_path / "out") == ["one.png", "two.png"]

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    damaged.write_bytes(whole)
    code, printed, _ = job(stacks)
    assert code == 0
    assert "beside 2 that were made before" in printed
    assert names(tmp_path / "out") == ["one.png", "three.png", "two.png"]
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())


def test_a_folder_is_fused_again_where_pixels_settings_or_the_output_changed(job, stacks, tmp_path):
    assert job(stacks)[0] == 0
    image = read_image(stacks / "image1" / "one.png")
    write_image(stacks / "image1" / "one.png", 255 - image)
    (tmp_path / "out" / "two.png").write_bytes(b"cut")
    code, printed, _ = job(stacks)
    assert (code, "2 images in" in printed, "beside 1 that" in printed) == (0, True, True)
    assert "3 images in" in job(stacks, options=("--seed", "7"))[1]
    assert "3 images in" in job(stacks, options=("--seed", "7", "--prompt", "Another."))[1]
    assert "have not changed" in job(stacks, options=("--seed", "7", "--prompt", "Another."))[1]


def test_what_is_left_out_of_a_folder_is_named(job, stacks, tmp_path):
    for side in ("image1", "image2"):
        (stacks / side / "photo.xyz").write_text("x")
        (stacks / side / "more").mkdir()
        write_image(stacks / side / "more" / "four.png", np.zeros((8, 8, 3), np.uint8))
    (stacks / "image1" / "three.png").unlink()
    (stacks / "image1" / "three.png").symlink_to("gone.png")
    (stacks / "image1" / "two.png").unlink()
    code, _, errors = job(stacks)
    assert code == 2
    assert "left out: 2 files of a kind that is not read: " in errors
    assert f"not fused: three: {stacks / 'image1' / 'three.png'} is a link to nothing" in errors
    assert "not fused: two: no partner" in errors
    assert "left out: 2 folders inside: " in errors
    assert "--recursive" in errors
    code, _, errors = job(stacks, options=["--recursive"])
    assert "folders inside" not in errors
    assert names(tmp_path / "out") == ["more/four.png", "one.png"]


def test_images_whose_roles_were_guessed_are_counted_and_each_says_what_was_taken(
    job, stacks, tmp_path
):
    """All images are in colour: none of them is seen to be the infrared one."""
    code, _, errors = job(stacks, options=["--emphasis", "infrared=+1"])
    assert code == 0
    assert errors.count("the images do not show which one is the infrared image") == 1
    assert "in 3 images it was guessed which one a request means" in errors
    for path in (tmp_path / "out").iterdir():
        assert read_metadata(path)["source roles"] == "infrared: image 2 (a guess)"


def test_two_folders_are_fused_by_equal_names(job, stacks, tmp_path):
    code, _, errors = job(stacks / "image1", stacks / "image2")
    assert (code, names(tmp_path / "out")) == (0, ["one.png", "three.png", "two.png"]), errors
    assert job(stacks / "image1", stacks / "image2" / "one.png")[0] == 2
