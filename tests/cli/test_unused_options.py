"""An option that a mode does not use is refused by its name."""

import argparse

import pytest

from ditfuse_jax.cli.unused_options import given_options, refuse_unused, sampling_options
from ditfuse_jax.errors import UserError


def test_given_options_are_those_that_were_typed():
    words = ["evaluate", "--steps=3", "--fused", "x", "-oOUT", "--json", "y", "--seed", "5"]
    assert given_options(words) == {"--steps", "--fused", "-o", "--json", "--seed"}


def test_the_message_names_every_option_that_is_not_used():
    args = argparse.Namespace(given={"--steps", "--seed", "--json"})
    with pytest.raises(UserError, match=r"^--steps, --seed have no effect here: leave them out$"):
        refuse_unused(args, ["--steps", "--solver", "--seed"], "here")
    refuse_unused(args, ["--solver"], "here")


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        ("evaluate --a x --b y --fused z -o o", [*sampling_options(), "--lora", "--base"]),
        ("evaluate --suite dev -o o", ["--steps", "--lora", "--task", "--range"]),
        ("evaluate --understanding", ["--steps", "--data", "--count", "--task", "--checkpoint"]),
        ("evaluate --segmentation --checkpoint x", ["--task", "--preset"]),
        ("evaluate --control --checkpoint x", ["--preset"]),
        ("prepare --verify x", ["--shard-size", "--num-tasks", "--images"]),
        ("prepare x -o y", ["--images", "--split", "--class"]),
        ("prepare --instructions ivif --images l -o y", ["--processes", "--max-side", "--crops"]),
        ("convert --verify x", ["--to", "--dtype", "--lora"]),
        ("sweep block_size --workdir x --slurm y", ["-n"]),
        ("compile --table x", ["--topology", "--preset", "--config", "--config.x"]),
    ],
)
def test_a_command_refuses_what_its_mode_does_not_use(refused, command, unused, tmp_path):
    values = {
        "--steps": "3",
        "--count": "3",
        "--crops": "2",
        "-n": "2",
        "--range": "full",
        "--text-slots": "8,4,16",
        "--guidance-interval": "0,1",
        "--limit-chroma": "true",
        "--refine": "true",
        "--apply-requests": "false",
        "--class-map": "false",
        "--solver": "euler",
    }
    for option in unused:
        words = command.replace(" x", f" {tmp_path}/x").split()
        message = refused(*words, option, values.get(option, "1"))
        assert message.startswith(f"{option} has no effect "), message
    assert not list(tmp_path.iterdir())
