"""Scripts that start worker processes: what they need, said before anything starts.

A worker process imports the script that started it.  A script without a guard would do all its work
again in every worker.
"""

import ast
import sys
from pathlib import Path

from ditfuse_jax.errors import UserError


def check_main_guard(what: str) -> None:
    """Checks that a call that starts worker processes is not made when the script is imported.

    Args:
      what: starts the processes, such as `train with data.workers=2`.

    Raises:
      UserError: the call comes from the top level of the main script, outside a guard.
    """
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if main is None or file is None:  # a notebook or an interactive session
        return
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is vars(main):
            break
        frame = frame.f_back
    if frame is None:  # another thread, or a tool that runs the script
        return
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    if not any(_is_guard_of(statement, frame.f_lineno) for statement in tree.body):
        raise UserError(
            f"{Path(file).name}: {what} starts worker processes, which import this script: put its"
            ' calls below `if __name__ == "__main__":`'
        )


def _is_guard_of(statement: ast.stmt, line: int) -> bool:
    """Whether a line is inside an `if` about `__name__`."""
    if not isinstance(statement, ast.If):
        return False
    names = {node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)}
    return "__name__" in names and statement.lineno <= line <= (statement.end_lineno or line)
