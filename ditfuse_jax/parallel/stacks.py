"""The stacks of all Python threads of this process, in a file."""

import faulthandler
import tempfile
import threading
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import make_folder, write_text

# Seconds that writing may take: the disk may be what hangs.
_LIMIT = 10.0


def write_stacks(path: Path, heading: str) -> bool:
    """Writes the stacks of all threads.

    Args:
      path: of the file; its folder is created.
      heading: first line of the file.

    Returns:
      Whether they were written within some seconds.
    """
    text = f"{heading}\n\n{_stacks()}"
    written = threading.Event()

    def write() -> None:
        try:
            make_folder(path.parent)
            write_text(path, text)
            written.set()
        except UserError:
            pass

    thread = threading.Thread(target=write, daemon=True, name="ditfuse-stacks")
    thread.start()
    thread.join(_LIMIT)
    return written.is_set()


def _stacks() -> str:
    """Returns the stacks as faulthandler prints them: without reading the sources from disk."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    listed = "\n".join(f"0x{ident or 0:016x} is {name}" for ident, name in names.items())
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return f"{listed}\n\n{file.read().decode(errors='replace')}"
