"""Commands of other programs, to be shown or run."""

import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from launch.errors import LaunchError


@dataclasses.dataclass(frozen=True)
class Command:
    """A call of a program.

    Attributes:
      argv: the program and its arguments.
      document: its standard input.
    """

    argv: tuple[str, ...]
    document: str = ""


def show(commands: Sequence[Command]) -> None:
    """Prints documents, and calls without a document as lines of bash."""
    for command in commands:
        call = shlex.join(command.argv)
        if command.document:
            print(f"standard input of: {call}", file=sys.stderr)
            print(command.document, end="")
        else:
            print(call)


def run(commands: Sequence[Command]) -> int:
    """Runs the commands in order until one fails; returns the last exit code.

    Raises:
      LaunchError: a program is not installed.
    """
    for program in {command.argv[0] for command in commands}:
        if shutil.which(program) is None:
            raise LaunchError(
                f"{program} is not on the PATH: install it, or show the command with --dry-run"
            )
    code = 0
    for command in commands:
        code = subprocess.run(
            command.argv, input=command.document or None, text=True, check=False
        ).returncode
        if code:
            break
    return code
