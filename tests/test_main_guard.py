"""A script without a guard is told so before worker processes import it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ditfuse_jax import api
from ditfuse_jax.errors import UserError

pytestmark = pytest.mark.processes

CALL = "check_main_guard('packing with processes=2')\n"
IMPORT = "from ditfuse_jax.main_guard import check_main_guard\n"
GUARD = "if __name__ == '__main__':\n    "


@pytest.fixture
def script(tmp_path):
    """Runs a script; returns the last line of its errors, "" if there is none."""

    def run(text):
        (tmp_path / "script.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return (done.stderr.strip().splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f"def main():\n    {CALL}main()\n",
        f"{GUARD}pass\n{CALL}",
    ],
    ids=["plain", "in a function", "below a guard that ends"],
)
def test_a_script_without_a_guard_is_refused(script, text):
    assert script(IMPORT + text).endswith(
        "script.py: packing with processes=2 starts worker processes, which import this script: "
        'put its calls below `if __name__ == "__main__":`'
    )


@pytest.mark.parametrize(
    "text",
    [
        GUARD + CALL,
        f"def main():\n    {CALL}{GUARD}main()\n",
        f"import threading\none = threading.Thread(target=lambda: {CALL.strip()})\none.start()\n",
    ],
    ids=["guard", "function below a guard", "thread"],
)
def test_a_guarded_script_is_not(script, text):
    assert not script(IMPORT + text)


@pytest.mark.medium
def test_packing_in_a_script_starts_nothing_and_makes_no_folder(script, tmp_path):
    text = "from ditfuse_jax.api import prepare\nprepare('samples:train', 'packed', processes=2)\n"
    assert "packing with processes=2 starts worker processes" in script(text)
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


@pytest.mark.medium
def test_training_with_workers_in_a_script_starts_nothing_and_makes_no_folder(script, tmp_path):
    text = (
        "from ditfuse_jax.api import train\n"
        "train('nano_m3', 'run_' + __name__, overrides=['--config.data.workers=2'])\n"
    )
    assert "training with data.workers=2 starts worker processes" in script(text)
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_overrides_in_the_place_of_writers_are_refused(tmp_path):
    with pytest.raises(UserError, match="changed settings are overrides="):
        api.train("nano_m3", tmp_path / "run", ["--config.data.workers=2"])  # pyright: ignore
    assert not (tmp_path / "run").exists()
