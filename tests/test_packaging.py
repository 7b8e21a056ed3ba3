"""The installed package is complete and independent of the checkout; imports follow its order."""

import ast
import configparser
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import ditfuse_jax

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ditfuse_jax"

# A package imports only packages before it.
PACKAGES = (
    *("process_exit", "errors", "checks", "config_names"),
    *("extensions", "lazy", "optional", "registry", "storage", "paths"),
    *("compat", "ahead", "files", "hub", "main_guard", "resources", "launchers"),
    "working_memory",
    "sampling_settings",
    *("images", "align", "prompts", "parser", "degrade", "tasks", "pipeline"),
    *("xla", "model", "flow", "weights", "parallel", "train", "sample", "evaluate", "convert"),
    *("aot", "sweep", "serve", "app", "bench", "api", "cli"),
)


DATA_PACKAGES = ("images", "align", "prompts", "degrade", "tasks", "pipeline")


def imported(path: Path) -> list[str]:
    """Returns the full names of all imports of a module, including those in functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not allowed"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    # Built from a copy, because building creates folders in the source.
    copy = folder / "source"
    for name in ("ditfuse_jax", "configs", "data"):
        source = ROOT / name
        for path in source.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = copy / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    # By default a wheel is built from the source distribution, which is built first.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    return built


def test_setup_lists_every_package_folder():
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert found <= listed


@pytest.mark.processes
def test_a_source_distribution_holds_what_a_wheel_holds(wheel):
    (built,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {"configs/small.py", "data/small/model.safetensors", "ditfuse_jax/py.typed"} <= names


@pytest.mark.processes
def test_the_metadata_have_the_version_the_links_and_the_types(wheel):
    archive = zipfile.ZipFile(wheel)
    assert "ditfuse_jax/py.typed" in archive.namelist()
    (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    lines = archive.read(name).decode().splitlines()
    assert f"Version: {ditfuse_jax.__version__}" in lines
    assert "Project-URL: Paper, https://arxiv.org/abs/2512.07170" in lines
    assert "Classifier: Typing :: Typed" in lines


def test_changelog_and_citation_have_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == ditfuse_jax.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == ditfuse_jax.__version__
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] and citation["title"] and citation["message"]


@pytest.mark.processes
def test_a_wheel_carries_recipes_pools_tokenizer_and_template_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    data = [path for suffix in ("yaml", "tsv") for path in (ROOT / "data").rglob(f"*.{suffix}")]
    for path in [*(ROOT / "configs").rglob("*.py"), *data]:
        assert f"ditfuse_jax/{path.relative_to(ROOT)}" in names
    assert "ditfuse_jax/prompts/assets/tokenizer.json" in names
    for path in (ROOT / "data" / "small").iterdir():
        assert f"ditfuse_jax/data/small/{path.name}" in names
    for path in (PACKAGE / "evaluate" / "reports" / "templates").iterdir():
        assert f"ditfuse_jax/evaluate/reports/templates/{path.name}" in names
    assert "ditfuse_jax/sweep/sweep.html.j2" in names
    assert not [name for name in names if "test" in name]
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    text = zipfile.ZipFile(wheel).read(entry_points).decode()
    assert "[console_scripts]\nditfuse = ditfuse_jax.cli:command" in text


@pytest.mark.processes
def test_a_wheel_holds_the_licences_of_code_and_weights(wheel):
    archive = zipfile.ZipFile(wheel)
    texts = {name: archive.read(name).decode() for name in archive.namelist() if "LICENSE" in name}
    weights = (ROOT / "data" / "small" / "LICENSE").read_text(encoding="utf-8")
    assert texts.pop("ditfuse_jax/data/small/LICENSE") == weights
    assert sorted(texts.values()) == sorted([(ROOT / "LICENSE").read_text("utf-8"), weights])
    (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    expression = "License-Expression: Apache-2.0 AND LicenseRef-DiTFuse-Weights"
    assert expression in archive.read(metadata).decode().splitlines()
    assert "Identifier: LicenseRef-DiTFuse-Weights" in weights


@pytest.mark.processes
def test_an_installed_wheel_works_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import ditfuse_jax, ditfuse_jax.cli\n"
        "from ditfuse_jax.train import load_recipe, resolve\n"
        "from ditfuse_jax.prompts import instructions, load_tokenizer\n"
        "from ditfuse_jax.resources import resource\n"
        "resolve(load_recipe('nano_m3')); load_tokenizer(); assert instructions('ivif')\n"
        "print(ditfuse_jax.__file__, resource('configs'), resource('data', 'instructions'))\n"
        "ditfuse_jax.cli.main(['--help'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    paths, help_text = done.stdout.split("\n", 1)
    assert all(path.startswith(str(site)) for path in paths.split())
    assert "train" in help_text


def test_a_package_imports_only_packages_before_it():
    for path in sorted(PACKAGE.rglob("*.py")):
        importer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if importer in ("__init__", "__main__"):
            continue
        for name in imported(path):
            top, _, inner = name.partition(".")
            if top == "ditfuse_jax" and inner != "__version__":
                other = inner.split(".")[0]
                assert PACKAGES.index(other) <= PACKAGES.index(importer), f"{path} imports {name}"


def test_the_data_packages_import_neither_jax_nor_flax_even_in_functions():
    for package in DATA_PACKAGES:
        for path in (PACKAGE / package).rglob("*.py"):
            packages = {name.split(".")[0] for name in imported(path)}
            assert not packages & {"jax", "jaxlib", "flax", "optax", "orbax"}, path


def test_no_module_is_longer_than_500_lines():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 500, path


@pytest.mark.processes
def test_importing_the_data_packages_imports_no_jax_and_opens_no_devices():
    packages = "from ditfuse_jax import images, prompts, degrade, tasks\n"
    code = packages + (
        "import sys\n"
        "assert 'jax' not in sys.modules\n"
        "import ditfuse_jax.pipeline\n"  # grain imports jax itself
        "from ditfuse_jax import compat\n"
        "assert not compat.backends_are_initialized()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
