"""The cache of compiled programs."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

# As the command does it: JAX is configured before it is used.
WHERE = """
from ditfuse_jax import cli
cli.main(["bench", "data", "--repeats", "0"])
import jax
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize("chosen", [None, "elsewhere"])
def test_the_compilation_cache_is_in_the_home_folder_unless_the_environment_names_another(
    tmp_path, chosen
):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    if chosen:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / chosen)
    done = subprocess.run(
        [sys.executable, "-c", WHERE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    expected = tmp_path / (chosen or ".cache/ditfuse_jax/xla")
    assert done.stdout.splitlines()[-1] == str(expected)
