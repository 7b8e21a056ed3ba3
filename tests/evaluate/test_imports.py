"""The metrics alone import neither models nor training."""

import subprocess
import sys

import pytest

HEAVY = ("flax", "grain", "optax", "orbax", "tensorboardX", "transformers", "matplotlib", "pandas")


@pytest.mark.processes
def test_the_metrics_import_no_model_training_or_plotting_library():
    code = (
        "import sys\n"
        "from ditfuse_jax.evaluate.metrics import compute_metrics\n"
        f"found = sorted(set({HEAVY}) & set(sys.modules))\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
