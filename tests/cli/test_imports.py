"""A command imports only what it uses, and extensions that it is given."""

import json
import subprocess
import sys

import pytest

from ditfuse_jax import api, extensions, flow
from ditfuse_jax.cli import COMMANDS, main
from ditfuse_jax.images import read_metadata

pytestmark = pytest.mark.medium


def modules_after(code: str) -> set[str]:
    """Names of all modules that a new process has imported after running the code."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.processes
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


@pytest.mark.processes
@pytest.mark.parametrize("words", [["--help"], ["a.png", "b.png", "-o", "x.png", "--no-such"]])
def test_the_help_of_fusing_and_a_wrong_option_need_no_jax(words):
    code = (
        "import contextlib, io\n"
        "from ditfuse_jax.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main(['fuse', *{words!r}])\n"
    )
    assert not modules_after(code) & {"jax", "flax", "numpy"}


@pytest.mark.processes
def test_jax_reads_the_variables_that_extensions_and_verbose_set(tmp_path):
    path = tmp_path / "sets_variables.py"
    path.write_text("import os\nos.environ['JAX_ENABLE_X64'] = '1'\n")
    words = ["fuse", "/none/a.png", "/none/b.png", "-o", "/none/x.png"]
    code = (
        "import os, sys\n"
        "os.environ.pop('JAX_LOGGING_LEVEL', None)\n"
        "from ditfuse_jax.cli import main\n"
        f"assert main([*{words!r}, '--import', {str(path)!r}, '--verbose']) == 2\n"
        "values = sys.modules['jax'].config.values\n"
        "assert values['jax_enable_x64'] and values['jax_logging_level'] == 'INFO'\n"
    )
    modules_after(code)


@pytest.mark.processes
def test_fusing_imports_nothing_that_only_training_needs(pair, tmp_path):
    command = ["fuse", *map(str, pair), "-o", str(tmp_path / "x.png"), "--task", "mff"]
    imported = modules_after(f"from ditfuse_jax.cli import main\nassert main({command!r}) == 0")
    # Flax itself imports optax.
    others = {name.partition(".")[0] for name in imported - modules_after("import flax.nnx")}
    unused = {"orbax", "tensorstore", "grain", "optax", "tensorboardX", "scipy", "transformers"}
    assert not others & unused
    assert not imported & {"ditfuse_jax.train", "ditfuse_jax.pipeline", "ditfuse_jax.evaluate"}


@pytest.mark.processes
def test_fusing_with_kept_programs_needs_no_flax():
    code = (
        "from ditfuse_jax.cli import fuse\n"
        "from ditfuse_jax.model import Condition, EncodedCondition, ModelConfig, PRESETS\n"
        "from ditfuse_jax.sample import files, fingerprints, kept_shapes, sampler, tiled, trained\n"
        "from ditfuse_jax.weights.open import open_checkpoint\n"
        "from ditfuse_jax.weights.autoencoder import load_autoencoder\n"
        "assert open_checkpoint('small').model.head == 'bands'\n"
    )
    assert not modules_after(code) & {"flax", "optax", "scipy"}


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


@pytest.fixture
def solver_file(tmp_path):
    """An extension that registers the solver `one_step`, and a function that unloads it."""
    path = tmp_path / "my_solver.py"
    path.write_text(
        "from ditfuse_jax.flow import SOLVERS\n"
        "@SOLVERS.register('one_step')\n"
        "def one_step(velocity, x, times):\n"
        "    return x + (times[-1] - times[0]) * velocity(x, times[0])\n"
    )

    def unload():
        flow.SOLVERS._entries.pop("one_step", None)
        sys.modules.pop("ditfuse_extension_my_solver", None)
        extensions._loaded.pop(str(path), None)

    yield path, unload
    unload()


def test_a_solver_of_an_extension_file_is_chosen_by_name(checkpoint, pair, tmp_path, solver_file):
    command = ["fuse", *map(str, pair), "--checkpoint", str(checkpoint), "--solver", "one_step"]
    command += ["-o", str(tmp_path / "x.png"), "--import", str(solver_file[0])]
    assert main(command) == 0
    assert read_metadata(tmp_path / "x.png")["solver"] == "one_step"


def test_a_run_loads_the_extensions_that_it_was_trained_with(
    tiny_overrides, pair, tmp_path, solver_file
):
    path, unload = solver_file
    run = str(tmp_path / "run")
    command = ["train", "--config", "nano_m3", "--workdir", run, *tiny_overrides]
    command += ["--config.train.steps=1", "--config.sample.solver=one_step"]
    assert main([*command, "--import", str(path)]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["imports"] == [str(path)]
    unload()
    assert main(["fuse", *map(str, pair), "-o", str(tmp_path / "x.png"), "--checkpoint", run]) == 0
    assert read_metadata(tmp_path / "x.png")["solver"] == "one_step"


def test_a_missing_extension_is_reported_in_one_line(refused, pair, tmp_path):
    message = refused("fuse", *pair, "-o", tmp_path / "x.png", "--import", "/none/here.py")
    assert message.startswith("extension /none/here.py: no such file")
