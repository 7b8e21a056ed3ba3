"""Commands of other programs: shown, or run."""

import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from launch.errors import LaunchError


@dataclasses.dataclass(frozen=True)
class Command:
    """A program's call.

    Attributes:
      words: the program and its arguments.
      document: what it reads from standard input.
    """

    words: tuple[str, ...]
    document: str = ""


def show(commands: Sequence[Command]) -> None:
    """Prints documents as they are, and calls as lines of bash."""
    for command in commands:
        call = shlex.join(command.words)
        if command.document:
            print(f"would be given to: {call}", file=sys.stderr)
            print(command.document, end="")
        else:
            print(call)


def run(commands: Sequence[Command]) -> int:
    """Runs one after the other until one fails; returns the last exit code.

    Raises:
      LaunchError: a program is not installed.
    """
    for program in {command.words[0] for command in commands}:
        if shutil.which(program) is None:
            raise LaunchError(
                f"{program} is not on the PATH: install it, or see what it would do with --dry-run"
            )
    code = 0
    for command in commands:
        code = subprocess.run(
            command.words, input=command.document or None, text=True, check=False
        ).returncode
        if code:
            break
    return code
