"""Refuses options that a command would not use in the mode that other options choose."""

import argparse
import dataclasses
from collections.abc import Collection, Sequence

from ditfuse_jax.errors import UserError
from ditfuse_jax.sampling_settings import SamplingSettings, option_name

MODEL_OPTIONS = ("--checkpoint", "--lora", "--base", "--quantize")


def given_options(argv: Sequence[str]) -> frozenset[str]:
    """Returns the options among a command's words, without their values.

    `-oFILE` counts as `-o`.
    """
    words = (word.partition("=")[0] for word in argv if word.startswith("-"))
    return frozenset(word if word.startswith("--") else word[:2] for word in words)


def sampling_options() -> tuple[str, ...]:
    """The options of `flow.SamplingConfig`."""
    return tuple(option_name(field.name) for field in dataclasses.fields(SamplingSettings))


def refuse_unused(args: argparse.Namespace, options: Collection[str], where: str) -> None:
    """Checks that the user gave none of some options.

    Args:
      args: the arguments, whose `given` are the options that the user typed.
      options: those that have no effect.
      where: the mode, like `with --suite`.

    Raises:
      UserError: one was given; the message names all that were.
    """
    unused = [option for option in options if option in args.given]
    if unused:
        verb, them = ("has", "it") if len(unused) == 1 else ("have", "them")
        raise UserError(f"{', '.join(unused)} {verb} no effect {where}: leave {them} out")
