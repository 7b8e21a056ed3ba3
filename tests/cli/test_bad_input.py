"""Bad input ends a command with one line, exit code 2 and no partial files."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.cli import COMMANDS, main
from ditfuse_jax.images import write_image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files():
    """All files below a folder."""
    return lambda folder: sorted(p for p in Path(folder).rglob("*") if p.is_file())


@pytest.mark.medium
class TestFuse:
    """`ditfuse fuse`."""

    folder_may_remain = False

    @pytest.fixture(autouse=True)
    def nothing_is_written(self, tmp_path, files):
        self.output = tmp_path / "out" / "fused.png"
        yield
        assert not files(tmp_path / "out")
        assert self.folder_may_remain or not self.output.parent.exists()

    def test_an_unreadable_image_is_named(self, checkpoint, pair, refused):
        pair[1].write_text("no image")
        message = refused("fuse", *pair, "-o", self.output, "--checkpoint", checkpoint)
        assert str(pair[1]) in message
        assert "not an image" in message

    def test_a_truncated_image_is_named(self, checkpoint, pair, refused):
        pair[0].write_bytes(pair[0].read_bytes()[:-900])
        message = refused("fuse", *pair, "-o", self.output, "--checkpoint", checkpoint)
        assert str(pair[0]) in message
        assert "truncated" in message

    def test_a_pair_of_different_sizes_is_refused_with_both_sizes(self, checkpoint, pair, refused):
        write_image(pair[1], np.zeros((37, 50, 3), np.uint8))
        message = refused("fuse", *pair, "-o", self.output, "--checkpoint", checkpoint)
        assert "53x37" in message
        assert "50x37" in message

    def test_an_empty_folder_is_refused(self, checkpoint, tmp_path, refused):
        for side in ("image1", "image2"):
            (tmp_path / "empty" / side).mkdir(parents=True)
        message = refused(
            "fuse", tmp_path / "empty", "-o", self.output.parent, "--checkpoint", checkpoint
        )
        assert "no images in this folder" in message

    @pytest.mark.parametrize(
        ("prompt", "part"),
        [
            ("fuse <img><|image_1|></img>", "<|image_2|>"),
            ("<|image_1|><|image_2|>" + 3 * " <|image_1|>", "places 5 images"),
            (
                "<img><|image_1|></img> <img><|image_2|></img> <img><|image_3|></img>",
                "<|image_3|>",
            ),
        ],
        ids=["missing", "repeated", "surplus"],
    )
    def test_a_wrong_placeholder_is_named(self, checkpoint, pair, refused, prompt, part):
        message = refused(
            "fuse", *pair, "-o", self.output, "--checkpoint", checkpoint, "--prompt", prompt
        )
        assert part in message

    def test_a_prompt_that_is_too_long_is_refused_with_the_limit(self, checkpoint, pair, refused):
        message = refused(
            *("fuse", *pair, "-o", self.output, "--checkpoint", checkpoint),
            *("--prompt", "brighter and sharper " * 100),
        )
        assert "limit of 160" in message
        assert "shorten the prompt" in message

    @pytest.mark.parametrize(
        ("content", "part"),
        [("schärfer".encode("latin-1"), "is not UTF-8"), (b"\n# nothing\n", "holds no prompt")],
        ids=["latin-1", "empty"],
    )
    def test_a_bad_prompt_file_is_named(self, checkpoint, pair, refused, tmp_path, content, part):
        (tmp_path / "prompts.txt").write_bytes(content)
        message = refused(
            *("fuse", *pair, "-o", self.output, "--checkpoint", checkpoint),
            *("--prompt-file", tmp_path / "prompts.txt"),
        )
        assert "prompts.txt" in message
        assert part in message

    def test_an_output_below_a_file_is_refused(self, checkpoint, pair, refused):
        message = refused("fuse", *pair, "-o", pair[0] / "x.png", "--checkpoint", checkpoint)
        assert str(pair[0]) in message

    def test_a_full_disk_leaves_no_partial_file(self, checkpoint, pair, refused, monkeypatch):
        def full(path, data):
            path.open("wb").write(bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        self.folder_may_remain = True
        message = refused("fuse", *pair, "-o", self.output, "--checkpoint", checkpoint)
        assert "No space left on device" in message

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            (["--task", "medical"], "standard task 'medical' is unknown; choose from fuse, ivif"),
            (["--steps", "0"], "steps must be at least 1"),
            (["--steps", "-3"], "steps must be at least 1"),
            (["--seed", "-1"], "seed must be at least 0"),
            (["--seed", str(2**40)], "below 2**32"),
            (["--guidance-scale", "nan"], "guidance_scale must be a finite number"),
            (["--prompt", ""], "the instruction is empty"),
            (["--steps", "many"], "--steps: invalid int value: 'many'"),
            (["--strength", "2"], "unrecognized arguments: --strength 2"),
            (["--max-side", "3"], "max_side must be 0 or at least 16"),
        ],
    )
    def test_a_bad_option_is_refused_with_the_possible_values(
        self, checkpoint, pair, refused, options, part
    ):
        message = refused("fuse", *pair, "-o", self.output, "--checkpoint", checkpoint, *options)
        assert part in message

    def test_a_single_image_or_five_are_refused(self, checkpoint, pair, refused):
        for inputs, part in (([pair[0]], "give two images"), ([pair[0]] * 5, "at most four")):
            assert part in refused("fuse", *inputs, "-o", self.output, "--checkpoint", checkpoint)

    def test_an_output_that_is_an_input_is_refused(self, checkpoint, pair, refused):
        before = pair[0].read_bytes()
        message = refused("fuse", *pair, "-o", pair[0].parent, "--checkpoint", checkpoint)
        assert f"{pair[0]} is one of the images to fuse" in message
        assert pair[0].read_bytes() == before

    def test_an_output_without_image_suffix_is_refused(self, checkpoint, pair, refused):
        message = refused(
            "fuse", *pair, "-o", self.output.with_suffix(".gif"), "--checkpoint", checkpoint
        )
        assert "no image format has the suffix '.gif'" in message

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tensorstore
    @pytest.mark.parametrize(
        ("part", "content"),
        [("ema/d/*", b"junk"), ("ema/d/*", None), ("config/metadata", b"{")],
        ids=["damaged values", "lost values", "damaged config"],
    )
    def test_a_damaged_checkpoint_is_named(
        self, checkpoint, pair, refused, tmp_path, part, content
    ):
        shutil.copytree(checkpoint, tmp_path / "damaged")
        step = tmp_path / "damaged" / "checkpoints" / "2"
        damaged = list(step.glob(part))
        assert damaged
        for path in damaged:
            path.write_bytes(content) if content else path.unlink()
        message = refused("fuse", *pair, "-o", self.output, "--checkpoint", tmp_path / "damaged")
        assert str(step) in message
        assert len(message) < 400

    def test_a_folder_without_checkpoint_is_named(self, pair, refused, tmp_path):
        message = refused("fuse", *pair, "-o", self.output, "--checkpoint", tmp_path / "none")
        assert "no checkpoint in" in message
        assert "ditfuse train" in message


class TestTrain:
    """`ditfuse train`; a refused run leaves no folder."""

    @pytest.fixture(autouse=True)
    def no_folder_is_left(self, tmp_path):
        self.folder = tmp_path / "run"
        yield
        assert not self.folder.exists()

    @pytest.mark.parametrize(
        ("override", "part"),
        [
            ("--config.train.stpes=3", 'Did you mean "steps"'),
            ("--config.nothing=3", "nothing"),
            ("--config.train.steps=three", "three"),
            ("--config.data.batch_size=0", "data.batch_size must be at least 1"),
            ("--config.data.batch_size=3 --config.train.accumulation=2", "not divisible by 2"),
            ("--config.mesh.data=3", "does not fit 1 devices"),
            ("--config.mesh.data=0", "mesh.data must be at least 1"),
            ("--config.data.crop=(30,30)", "multiples of 16"),
            ("--config.data.mixture.photos.source=/nowhere", "/nowhere"),
            ("--config.data.mixture.photos.task=paint", "training task 'paint' is unknown"),
            ("--config.data.mixture.photos.task=ivif", "takes 2 image(s)"),
            ("--config.model.attention=flash", "model.attention 'flash' is unknown"),
            ("--config.model.remat=some", "model.remat 'some' is unknown"),
            ("--config.model.num_heads=5", "hidden_size 32"),
            ("--config.flow.time_sampler=now", "time sampler 'now' is unknown"),
            ("--config.optimizer.schedule=never", "optimizer.schedule 'never' is unknown"),
            ("--config.data.condition_dropout=2.0", "data.condition_dropout must be in 0..1"),
            ("--steps=3", "unknown argument '--steps=3'"),
        ],
    )
    def test_a_wrong_setting_is_named(self, refused, tiny_overrides, override, part):
        options = (
            "--config",
            "nano_m3",
            "--workdir",
            self.folder,
            *tiny_overrides,
            *override.split(),
        )
        assert part in refused("train", *options)

    def test_an_unknown_recipe_lists_the_known(self, refused):
        message = refused("train", "--config", "nono", "--workdir", self.folder)
        assert "nano_m3" in message

    def test_a_failing_recipe_file_is_named(self, refused, tmp_path):
        (tmp_path / "mine.py").write_text("def get_config():\n    raise ValueError('oops')\n")
        message = refused("train", "--config", tmp_path / "mine.py", "--workdir", self.folder)
        assert "mine.py fails: ValueError: oops" in message


def test_continuing_with_another_model_names_the_difference(
    checkpoint, refused, tiny_overrides, files
):
    def states() -> dict[Path, int]:
        # The run folder was owned for a moment: the number of its lock is another one.
        found = [path for path in files(checkpoint) if path.parent.name != "lock"]
        return {path: path.stat().st_mtime_ns for path in found}

    before = states()
    options = [*tiny_overrides, "--config.model.hidden_size=64", "--config.train.steps=4"]
    message = refused("train", "--config", "nano_m3", "--workdir", checkpoint, *options)
    assert "model.hidden_size is 32 there and 64 in this config" in message
    assert states() == before


def test_a_run_folder_below_a_file_is_refused(refused, tiny_overrides, tmp_path):
    (tmp_path / "file").write_text("")
    options = ["--config", "nano_m3", "--workdir", tmp_path / "file" / "run", *tiny_overrides]
    assert "cannot be created" in refused("train", *options)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--fused", "x"], "--fused needs --a, --b and --output"),
        ([], "name a model (--checkpoint)"),
        (["--checkpoint", "/nowhere"], "no checkpoint in /nowhere"),
        (["--checkpoint", "/nowhere", "--a", "x"], "at least two"),
        (["--checkpoint", "/nowhere", "--clean", "x"], "--clean needs --a and --b"),
        (
            ["--checkpoint", "x", "--a", "x", "--b", "y", "--data", "z"],
            "with --data or with --a",
        ),
        (["--a", "x", "--b", "y"], "--fused needs --a, --b and --output"),
        (["--suite", "dev"], "--suite needs --output"),
        (["--suite", "dev", "-o", "x", "--data", "y"], "--suite has its own data"),
        (["--suite", "best", "-o", "x"], "suite 'best' is unknown; choose from dev"),
        (
            ["--suite", "dev", "-o", "x", "--root", "/nowhere"],
            "its data with --root",
        ),
        (["--root", "x", "--checkpoint", "y"], "--root needs --suite"),
        (["--count", "few"], "--count: invalid int value"),
        (["--suite", "dev", "-o", "x", "--count", "0"], "--suite dev has its own data"),
        (["--suite", "dev", "-o", "x", "--data", "samples:heldout"], "--suite has its own data"),
        (
            ["--a", "x", "--b", "y", "--fused", "z", "-o", "o", "--count", "0"],
            "--data and --count need --checkpoint",
        ),
        (
            ["--checkpoint", "x", "--a", "x", "--b", "y", "--data", "samples:heldout"],
            "with --data or with --a",
        ),
    ],
)
def test_evaluate_names_the_missing_or_conflicting_option(refused, options, part):
    assert part in refused("evaluate", *options)


def test_evaluate_names_a_missing_fused_image(refused, stacks, tmp_path):
    (tmp_path / "fused").mkdir()
    options = ["--a", stacks / "image1", "--b", stacks / "image2", "-o", tmp_path / "out"]
    message = refused("evaluate", *options, "--fused", tmp_path / "fused")
    assert "no images in this folder" in message
    write_image(tmp_path / "fused" / "four.png", np.zeros((32, 32, 3), np.uint8))
    message = refused("evaluate", *options, "--fused", tmp_path / "fused")
    assert f"{tmp_path / 'fused'}: no image named one" in message
    assert not (tmp_path / "out").exists()


def test_evaluate_prints_its_error_on_a_line_after_the_progress_bar(refused, stacks, tmp_path):
    shutil.copytree(stacks / "image1", tmp_path / "fused")
    for path in (tmp_path / "fused").iterdir():
        write_image(path, np.zeros((5, 9, 3), np.uint8))
    options = ["--a", stacks / "image1", "--b", stacks / "image2", "-o", tmp_path / "out"]
    message = refused("evaluate", *options, "--fused", tmp_path / "fused")
    assert "nothing to score: all 3 image(s) were excluded" in message and "is 9x5" in message
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--metrics", "EN", "QABF2"], "metric 'QABF2' is unknown"),
        (["--preset", "paper"], "metric preset 'paper' is unknown; choose from canonical, linfeng"),
        (["--fused", "mean=x"], "cannot be called 'mean'"),
        (["--task", "paint"], "evaluation task 'paint' is unknown"),
    ],
)
def test_evaluate_of_files_refuses_bad_options_before_it_writes_anything(
    stacks, refused, tmp_path, options, part
):
    options = ["--a", stacks / "image1", "--b", stacks / "image2", "-o", tmp_path / "out", *options]
    options = options if "--fused" in options else [*options, "--fused", stacks / "image1"]
    assert part in refused("evaluate", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--count", "0"], "count must be at least 1"),
        (["--task", "paint"], "standard task 'paint' is unknown"),
        (["--data", "/nowhere"], "data source '/nowhere' is neither"),
    ],
)
def test_evaluate_of_a_model_refuses_bad_options_before_it_writes_anything(
    checkpoint, refused, tmp_path, options, part
):
    options = ["--checkpoint", checkpoint, "-o", tmp_path / "out", *options]
    assert part in refused("evaluate", *options)
    assert not (tmp_path / "out").exists()


def test_an_unknown_command_lists_the_known(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fsue"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ditfuse: error: ")
    assert ", ".join(map(repr, COMMANDS)) in line


@pytest.mark.processes
def test_a_process_prints_its_error_in_one_line_and_nothing_else(checkpoint, pair, tmp_path):
    # In a new process, messages of libraries and their threads would appear too.
    shutil.copytree(checkpoint, tmp_path / "damaged")
    for path in (tmp_path / "damaged" / "checkpoints" / "2" / "ema" / "d").iterdir():
        path.write_bytes(b"junk")
    options = ["fuse", *pair, "-o", tmp_path / "out.png", "--checkpoint", tmp_path / "damaged"]
    done = subprocess.run(
        [sys.executable, "-m", "ditfuse_jax", *options],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"ditfuse fuse: error: checkpoint {tmp_path / 'damaged'}")


def test_an_unknown_benchmark_lists_the_known(refused):
    assert "choose from train, sample, data, m3" in refused("bench", "walk")


def test_a_page_refuses_a_batch_size_as_it_fuses_one_stack_at_a_time(refused):
    assert "--batch-size has no effect with app" in refused("app", "--batch-size", "4")
