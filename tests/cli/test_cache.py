"""Compiled programs are kept between runs."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

# The command's own order: subcommands are imported, then JAX is prepared, then used.
WHERE = """
from ditfuse_jax import cli
cli.main(["bench", "data", "--repeats", "0"])
import jax
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize("chosen", [None, "elsewhere"])
def test_the_cache_is_the_user_s_unless_the_environment_says_otherwise(tmp_path, chosen):
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
