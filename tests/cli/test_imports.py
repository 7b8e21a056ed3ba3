"""A command imports only what it uses, and extensions that it is given."""

import json
import subprocess
import sys

import pytest

from ditfuse_jax import api, flow
from ditfuse_jax.cli import COMMANDS, main
from ditfuse_jax.images import read_metadata


def modules_after(code: str) -> set[str]:
    """Names of all modules that a new process has imported after running the code."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_the_api_and_the_help_need_no_other_library():
    code = (
        "import contextlib, io, ditfuse_jax, ditfuse_jax.api\n"
        "from ditfuse_jax.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):\n"
        "    main(['--help'])\n"
        "assert 'fuse images' in text.getvalue()\n"
    )
    heavy = {"jax", "flax", "numpy", "absl", "grain", "optax", "orbax", "cv2", "PIL", "tqdm"}
    assert not modules_after(code) & heavy


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert text.startswith(f"usage: ditfuse {name}") and "--import FILE|MODULE" in text


def test_every_name_of_the_api_is_a_function():
    assert all(callable(getattr(api, name)) for name in api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fuze'"):
        _ = api.fuze  # pyright: ignore[reportAttributeAccessIssue]


def test_a_solver_of_an_extension_file_is_chosen_by_name(checkpoint, pair, tmp_path):
    extension = tmp_path / "my_solver.py"
    extension.write_text(
        "from ditfuse_jax.flow import SOLVERS\n"
        "@SOLVERS.register('backwards')\n"
        "def backwards(velocity, x, times):\n"
        "    return x - velocity(x, times[0])\n"
    )
    command = ["fuse", *map(str, pair), "--checkpoint", str(checkpoint), "--solver", "backwards"]
    code = main([*command, "-o", str(tmp_path / "x.png"), "--import", str(extension)])
    flow.SOLVERS._entries.pop("backwards", None)
    assert code == 0
    assert read_metadata(tmp_path / "x.png")["solver"] == "backwards"


def test_an_extension_given_to_a_training_becomes_part_of_its_config(tiny_overrides, tmp_path):
    extension = tmp_path / "my_extension_for_training.py"
    extension.write_text("imported = True\n")
    command = ["train", "--config", "nano_m3", "--workdir", str(tmp_path / "run"), *tiny_overrides]
    assert main([*command, "--config.train.steps=1", "--import", str(extension)]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["imports"] == [str(extension)]


def test_a_missing_extension_is_reported_in_one_line(refused, pair, tmp_path):
    message = refused("fuse", *pair, "-o", tmp_path / "x.png", "--import", "/none/here.py")
    assert message == "extension /none/here.py: no such file"
