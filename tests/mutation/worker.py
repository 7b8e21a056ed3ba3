"""Runs tests on mutants: each in a process forked from one that has imported the libraries.

The parent never imports the package or a test, and never starts a JAX backend, so a fork is safe;
what it saves are the seconds that importing JAX takes.
"""

import contextlib
import functools
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Imported before the fork.
LIBRARIES = (
    *("cv2", "flax.nnx", "grain", "hypothesis", "jax.numpy", "ml_collections", "numpy", "optax"),
    *("orbax.checkpoint", "PIL.Image", "pytest", "safetensors.numpy", "scipy.ndimage", "tqdm"),
)
_CAUGHT, _SURVIVED, _TIMED_OUT = "caught", "survived", "timed out"

_root: Path | None = None


def start(root: Path, folder: Path) -> None:
    """Prepares this process: a copy of the repository in `folder`, and the libraries.

    Args:
      root: the repository.
      folder: where the copies of all workers lie; this one's is named after the process.
    """
    global _root
    _root = folder / f"tree-{os.getpid()}"
    shutil.rmtree(_root, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (_root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, _root / name)
    os.environ |= {
        "PYTHONPATH": str(_root),
        "PYTHONDONTWRITEBYTECODE": "1",  # a mutant may have the time and size of the original
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get(
            "JAX_COMPILATION_CACHE_DIR", str(folder / "xla")
        ),
        "OPENBLAS_NUM_THREADS": "1",
        "TMPDIR": str(_root / "tmp"),
    }
    (_root / "tmp").mkdir()
    sys.dont_write_bytecode = True
    for name in LIBRARIES:
        importlib.import_module(name)


def stop() -> None:
    """Removes this worker's copy."""
    if _root is not None:
        shutil.rmtree(_root, ignore_errors=True)


def measure(sources: Sequence[str], tests: Sequence[str], markers: str) -> dict[str, Any]:
    """Runs the tests, but for those that start processes, without a mutant.

    Args:
      sources: the files or folders whose lines count.
      tests: files or folders.
      markers: pytest's `-m`.

    Returns:
      `seconds`: CPU seconds of each test; `lines`: file -> line -> tests that run it; `failed`: the
      end of pytest's output if a test fails, else "".
    """
    assert _root is not None
    out = _root / "measured.json"

    def work() -> int:
        import coverage  # pyright: ignore[reportMissingImports]
        import pytest

        found = coverage.Coverage(data_file=None, config_file=False, include=_patterns(sources))
        found.start()
        times = _Times(found)
        options = _options(f"({markers}) and not processes")
        code = pytest.main([*tests, *options], plugins=[times])
        found.stop()
        data, lines = found.get_data(), {}
        for file in data.measured_files():
            contexts = data.contexts_by_lineno(file)
            lines[str(Path(file).relative_to(_root))] = {
                line: [name for name in names if name] for line, names in contexts.items()
            }
        out.write_text(json.dumps({"seconds": times.seconds, "lines": lines}))
        return int(code)

    log = _root / "measure.log"
    code, _ = _in_fork(work, log, cpu=3600, wall=7200)
    if code:
        return {"failed": f"exit code {code}\n{log.read_text()[-3000:]}"}
    return json.loads(out.read_text()) | {"failed": ""}


def judge(
    file: str, source: str, tests: Sequence[str], order: Sequence[str], markers: str, cpu: float
) -> dict[str, Any]:
    """Runs the tests on a mutant until one fails.

    Args:
      file: the mutated file.
      source: its text.
      tests: files or folders.
      order: names of tests in the order in which they are run; others follow.
      markers: pytest's `-m`.
      cpu: seconds after which a mutant counts as one that never ends.

    Returns:
      `outcome`, `seconds`, and `by`: the test that failed.
    """
    assert _root is not None
    path, log = _root / file, _root / "mutant.log"
    original = path.read_text(encoding="utf-8")

    def run(which: str) -> int:
        import pytest

        options = _options(f"({markers}) and {which}")
        code = int(pytest.main([*tests, *options], plugins=[_Order(order)]))
        return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code

    begin = time.monotonic()
    try:
        path.write_text(source, encoding="utf-8")
        # Tests that start processes are slow: they judge what the others do not notice.
        for which in ("not processes", "processes"):
            work = functools.partial(run, which)
            code, ended = _in_fork(work, log, cpu=cpu, wall=60 + 8 * cpu)
            outcome = (_SURVIVED if code == 0 else _CAUGHT) if ended else _TIMED_OUT
            if outcome != _SURVIVED:
                break
    finally:
        path.write_text(original, encoding="utf-8")
    lines = log.read_text(errors="replace").splitlines()
    by = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "")
    return {"outcome": outcome, "seconds": round(time.monotonic() - begin, 1), "by": by[:200]}


class _NeverShrink:
    """Hypothesis stops at the first failing example, and draws the same ones every time."""

    def pytest_sessionstart(self) -> None:
        import hypothesis

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutants",
            hypothesis.settings(),  # as the tests' conftest has it
            phases=phases,
            derandomize=True,
            database=None,
        )
        hypothesis.settings.load_profile("mutants")


class _Times(_NeverShrink):
    """Seconds of each test, and whose lines are being run."""

    def __init__(self, coverage: Any) -> None:
        self.seconds: dict[str, float] = {}
        self._coverage = coverage

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self._coverage.switch_context(nodeid)
        self._begin = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        self.seconds[nodeid] = time.process_time() - self._begin


class _Order(_NeverShrink):
    """Runs the tests in a given order."""

    def __init__(self, order: Sequence[str]) -> None:
        self._place = {name: place for place, name in enumerate(order)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self._place.get(item.nodeid, len(self._place)))


def _options(markers: str) -> list[str]:
    plain = ["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "--color=no"]
    return [*plain, "-m", markers]


def _patterns(sources: Sequence[str]) -> list[str]:
    assert _root is not None
    return [str(_root / s) if s.endswith(".py") else str(_root / s / "*") for s in sources]


def _in_fork(work: Callable[[], int], log: Path, cpu: float, wall: float) -> tuple[int, bool]:
    """Runs a function in a child process; its exit code, and whether it ended within its limits."""
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 6))
        with log.open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = 70
        try:
            assert _root is not None
            os.chdir(_root)
            sys.path.insert(0, str(_root))
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + wall
    try:
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                cut = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (
                    *(signal.SIGXCPU, signal.SIGKILL),
                )
                return os.waitstatus_to_exitcode(status), not cut
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return 1, False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests started
