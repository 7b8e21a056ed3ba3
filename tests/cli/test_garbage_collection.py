"""When a command searches for cycles of objects."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes  # it changes how a process collects garbage

SCRIPT = """
import gc, weakref
from ditfuse_jax import cli

class Kept:
    pass

callbacks = len(gc.callbacks)
cli._search_cycles_late()
assert gc.get_threshold() == (cli._FIRST_CYCLES, *cli._CYCLES[1:])
kept, lost = Kept(), Kept()
lost.itself = lost
lost = weakref.ref(lost)
gc.collect()
assert lost() is None  # the first search finds cycles
assert gc.get_threshold() == cli._CYCLES and len(gc.callbacks) == callbacks
assert gc.get_freeze_count() > 0
searched = {id(one) for generation in range(3) for one in gc.get_objects(generation)}
assert id(kept) not in searched  # what was there is never searched again
later = Kept()
later.itself = later
later = weakref.ref(later)
gc.collect()
assert later() is None
"""


def test_the_first_search_is_late_and_what_remains_is_never_searched_again():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
