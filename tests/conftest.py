"""Fixtures and settings for the tests of all packages."""

import gc
import importlib.metadata
import importlib.util
import json
import multiprocessing.process
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

from ditfuse_jax import extensions

TESTS = Path(__file__).parent

# Many tests compile the same programs, some in other processes: they share a cache.  The variables
# must be set before JAX is first used, and values set by the user are kept.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(TESTS.parent / ".cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Most programs run once, and optimising them would take most of the tests' time.  Processes that
# tests start inherit the flags, so their results are bitwise equal.  Programs of accelerators, and
# all programs of `make test-all`, which sets `XLA_FLAGS=`, are optimised.
COMPILE_FAST = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib") < "0.11":  # newer versions exit at unknown flags
    COMPILE_FAST.append("--xla_cpu_use_fusion_emitters=false")
if not any(map(importlib.util.find_spec, ("jax_cuda12_plugin", "libtpu"))):
    os.environ.setdefault("XLA_FLAGS", " ".join(COMPILE_FAST))

# Tracing creates many objects: with Python's own threshold (700) a fifth of the processor time of
# a process that holds all tests went into searching them for cycles.
gc.set_threshold(50_000, 20, 20)

# The first example of a property often compiles a program, so time limits per example are useless.
hypothesis.settings.register_profile("ditfuse", deadline=None)
hypothesis.settings.load_profile("ditfuse")


# A shell ignores Ctrl-C for what it starts in the background; tests of it need Python's handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Processes that the current test has started, except `git`, which reports a run's commit, and
# `uname`, which Python's `platform` runs for a library.
_started: list[str] = []


def _record_starts(owner: type, method: str) -> None:
    original = getattr(owner, method)

    def start(self, *args, **kwargs):
        command = args[0] if args else getattr(self, "name", "")
        # matplotlib runs fc-list when it is imported for the first time on a machine.
        if Path(command[0]).name not in ("git", "uname", "fc-list"):
            _started.append(f"{owner.__name__} {command}")
        return original(self, *args, **kwargs)

    setattr(owner, method, start)


_record_starts(subprocess.Popen, "__init__")
_record_starts(multiprocessing.process.BaseProcess, "start")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item):
    _started.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Fails a test that starts a process without the marker `processes`."""
    result = yield
    if _started and item.get_closest_marker("processes") is None:
        pytest.fail(f"mark this test with `processes`: it starts {_started[0]}", pytrace=False)
    return result


def _helper(path: str) -> ModuleType:
    """Loads a helper module from the tests' folder, which is not a package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, TESTS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _extensions_of_one_test(monkeypatch):
    """Worker processes import the extensions of their own test only, not those of earlier tests."""
    monkeypatch.setattr(extensions, "_loaded", dict(extensions._loaded))


@pytest.fixture(scope="session")
def official():
    """Reference numbers of the original PyTorch code."""
    from ditfuse_jax.convert.reference import Reference

    return Reference(TESTS / "golden" / "official_tiny")


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """Tiny models with random parameters (`model/random_models.py`)."""
    return _helper("model/random_models.py")


@pytest.fixture(scope="session")
def on_eight_devices() -> Callable[..., Any]:
    """Runs a script on eight emulated CPU devices and returns the JSON that it prints."""

    def run(script: str, *arguments: str) -> Any:
        paths = [str(TESTS.parent), str(TESTS / "model"), os.environ.get("PYTHONPATH", "")]
        environment = {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "8",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        done = subprocess.run(
            [sys.executable, str(TESTS / script), *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def python_program() -> Callable[[Path, str], None]:
    """Writes an executable that runs Python code.

    A `#!` line cannot name an interpreter whose path holds a space: a shell script starts it.
    """

    def write(path: Path, code: str) -> None:
        script = path.with_name(f".{path.name}.py")
        script.write_text(code)
        command = shlex.join([sys.executable, str(script)])
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)

    return write


@pytest.fixture(scope="session")
def omnigen_folder() -> ModuleType:
    """Writes small random models in OmniGen's format (`omnigen_folder.py`)."""
    return _helper("omnigen_folder.py")


@pytest.fixture
def hub_server(monkeypatch, tmp_path):
    """A Hugging Face Hub (`hub_server.py`) with an empty cache, for this process and new ones.

    `log_in()` sets a token; `forget()` makes this process ask for commits again.
    """
    from huggingface_hub import constants

    from ditfuse_jax import hub

    helper = _helper("hub_server.py")

    def forget() -> None:
        hub._resolve.cache_clear()
        hub._files.cache_clear()
        hub._downloaded.clear()

    with helper.running() as server:
        settings = {
            "HF_ENDPOINT": ("ENDPOINT", server.url),
            "HF_HUB_CACHE": ("HF_HUB_CACHE", str(tmp_path / "hub-cache")),
            "HF_TOKEN_PATH": ("HF_TOKEN_PATH", str(tmp_path / "no-token")),
            "HF_HUB_DISABLE_XET": ("HF_HUB_DISABLE_XET", "1"),
        }
        for variable, (constant, value) in settings.items():
            monkeypatch.setenv(variable, value)
            monkeypatch.setattr(constants, constant, value)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        server.log_in = lambda: monkeypatch.setenv("HF_TOKEN", helper.TOKEN)
        server.forget = forget
        forget()
        yield server
        forget()


@pytest.fixture(scope="session")
def object_store() -> ModuleType:
    """Starts object stores behind a proxy that counts requests and injects faults."""
    return _helper("object_store.py")


@pytest.fixture(scope="session")
def _gcs_server(object_store, tmp_path_factory):
    with object_store.start_gcs(tmp_path_factory.mktemp("gcs")) as store:
        yield store


@pytest.fixture(scope="session")
def _s3_server(object_store):
    with object_store.start_s3() as store:
        yield store


@pytest.fixture
def gcs(_gcs_server, monkeypatch):
    """A Google Cloud Storage server: `gcs.bucket()` is an address, `gcs.proxy` injects faults."""
    for name, value in _gcs_server.environment.items():
        monkeypatch.setenv(name, value)
    _gcs_server.proxy.reset()
    yield _gcs_server
    _gcs_server.proxy.reset()


@pytest.fixture
def s3(_s3_server, monkeypatch):
    """An S3 server, like `gcs`."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    _s3_server.proxy.reset()
    yield _s3_server
    _s3_server.proxy.reset()


@pytest.fixture(params=["gcs", "s3"])
def store(request):
    """Each of the stores in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def html_page() -> ModuleType:
    """Parses the HTML pages of reports (`html_page.py`)."""
    return _helper("html_page.py")


@pytest.fixture(scope="module")
def exact_products():
    """Computes float32 matrix products exactly; by default accelerators round their inputs."""
    import jax

    with jax.default_matmul_precision("highest"):
        yield
