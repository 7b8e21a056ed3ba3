"""The cache of compiled programs."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

# Each command ends with an error after its modules were imported.
WHERE = """
import sys
from ditfuse_jax import cli
assert cli.main(sys.argv[1:]) == 2
import jax
print(jax.config.jax_compilation_cache_dir)
"""

FUSE = ("fuse", "missing.png", "missing.png", "-o", "out.png")
COMMANDS = (FUSE, ("train", "--config", "missing", "--workdir", "run"), ("evaluate",))


@pytest.mark.parametrize(
    ("command", "chosen"), [*((command, None) for command in COMMANDS), (FUSE, "elsewhere")]
)
def test_the_compilation_cache_is_in_the_home_folder_unless_the_environment_names_another(
    tmp_path, command, chosen
):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    if chosen:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / chosen)
    done = subprocess.run(
        [sys.executable, "-c", WHERE, *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    expected = tmp_path / (chosen or ".cache/ditfuse_jax/xla")
    assert done.stdout.splitlines()[-1] == str(expected)
