"""The table of `docs/scaling.md`, made by compiling its cases."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.aot.compile import CompileConfig, compile_programs
from ditfuse_jax.aot.report import Report
from ditfuse_jax.aot.topology import Topology
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text

# The cases of the table, in its order.
# Splash is the TPU kernel; `xla` writes all scores to HBM.
_SPLASH: dict[str, Any] = {"overrides": ("--config.model.attention=splash",)}
_PROJECTIONS: dict[str, Any] = {
    "overrides": (*_SPLASH["overrides"], "--config.model.remat=projections")
}
_OPTIONS: Sequence[tuple[dict[str, Any], Topology]] = (
    ({"batch_size": 256}, Topology("v5p", (4, 4, 4))),
    ({"batch_size": 1024}, Topology("v6e", (16, 16))),
    ({"batch_size": 1024, **_SPLASH}, Topology("v6e", (16, 16))),
    ({"batch_size": 256, **_PROJECTIONS}, Topology("v5p", (4, 4, 4))),
    ({"batch_size": 512, **_PROJECTIONS}, Topology("v6e", (16, 16))),
    (
        {"program": "sample", "image_size": 1024, "batch_size": 1, **_SPLASH},
        Topology("v6e", (2, 4)),
    ),
    ({"batch_size": 2048}, Topology("v5p", (8, 8, 8))),
    ({"batch_size": 2048, **_SPLASH}, Topology("v6e", (16, 16), slices=2)),
    ({"batch_size": 2048, "image_size": 256, **_SPLASH}, Topology("v6e", (16, 16))),
    ({"batch_size": 256, "image_size": 1024, **_SPLASH}, Topology("v6e", (16, 16))),
    ({"batch_size": 512, **_SPLASH}, Topology("v5e", (16, 16))),
    ({"batch_size": 32, "lora": True, **_SPLASH}, Topology("v6e", (2, 4))),
    ({"batch_size": 512, **_SPLASH}, Topology("v7x", (4, 4, 4))),
)
CASES: Sequence[tuple[CompileConfig, Topology]] = [
    (CompileConfig("omnigen", **options), topology) for options, topology in _OPTIONS
]
_START, _END = "<!-- table -->", "<!-- end of the table -->"
_NOT_YET = "not compiled yet"
_KEY = 6  # cells that tell which case a row is of; what was found follows
_GIB = 2.0**30
_COLUMNS = (
    *("program", "attention", "kept", "devices", "px", "batch"),
    *("arguments + temporaries = total GiB", "of GiB"),
    *("model TFLOP", "executed TFLOP", "sent GB", "least ms", "set by", "MFU at most"),
)


def write_table(
    path: Path, *, missing: bool = False, low_effort: bool = False, folder: Path | None = None
) -> None:
    """Puts the table of all cases into a document, between its marks, and renews it case by case.

    A case's rows stay as they are until it is compiled.

    Args:
      path: the document.
      missing: compile only the cases whose rows the document does not have.
      low_effort, folder: see `compile_lowered`.

    Raises:
      UserError: the document lacks the marks, or a case cannot be compiled.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    head, start, rest = text.partition(_START)
    old, end, tail = rest.partition(_END)
    if not start or not end:
        raise UserError(f"{path} has no place for the table: write {_START} and {_END} in it")
    known = _rows(old)
    cells = [_known_or_waiting(case, topology, known) for case, topology in CASES]
    for number, (case, topology) in enumerate(CASES):
        if missing and cells[number][0][_KEY] != _NOT_YET:
            continue
        print(f"{topology}: {case}", flush=True)
        reports = compile_programs(case, topology, low_effort=low_effort, folder=folder)
        print("\n".join(line for report in reports for line in report.lines()), flush=True)
        cells[number] = [list(row(report)) for report in reports]
        lines = [_COLUMNS, ("---",) * len(_COLUMNS), *(row for rows in cells for row in rows)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        write_text(path, f"{head}{start}\n{table}\n{end}{tail}")


def _rows(table: str) -> dict[tuple[str, ...], list[str]]:
    """The rows of a Markdown table by their first cells."""
    lines = (line.strip() for line in table.splitlines())
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line)
    return {tuple(cells[:_KEY]): cells for cells in rows if len(cells) == len(_COLUMNS)}


def _known_or_waiting(
    case: CompileConfig, topology: Topology, known: dict[tuple[str, ...], list[str]]
) -> list[list[str]]:
    """A case's rows in the document, or one that says it is not compiled yet."""
    changed = dict(word.removeprefix("--config.model.").split("=") for word in case.overrides)
    attention = changed.get("attention", "xla")
    kept = changed.get("remat", "attention")
    names = ["encode", "sample", "decode"] if case.program == "sample" else [case.program]
    if case.lora:
        names = [f"{name}, adapters" for name in names]
    where = f"{topology}", f"{case.image_size}", f"{case.batch_size}"
    keys = [(name, attention, "" if case.program == "sample" else kept, *where) for name in names]
    rows = [known[key] for key in keys if key in known]
    return rows or [[*keys[0], _NOT_YET, *[""] * (len(_COLUMNS) - _KEY - 1)]]


def row(report: Report) -> Iterator[str]:
    """The cells of a program's line."""
    facts = report.facts
    adapters = ", adapters" if facts.get("trains") == "adapters" else ""
    yield report.program + adapters
    yield str(facts["attention"])
    yield str(facts.get("remat", ""))
    yield str(facts["topology"])
    yield str(facts["image_size"])
    yield str(facts["batch_size"])
    if not report.fits or report.work is None or report.roofline is None:
        needed = report.bytes.get("needed") or report.bytes.get("total")
        yield f"does not fit: {needed / _GIB:.1f}" if needed else "does not fit"
        yield f"{report.hbm_bytes / _GIB:.0f}"
        yield from ("",) * 6
        return
    parts = (report.bytes[kind] / _GIB for kind in ("argument", "temp", "total"))
    yield "{:.2f} + {:.2f} = {:.2f}".format(*parts)
    yield f"{report.hbm_bytes / _GIB:.0f}"
    yield f"{report.model_flops / 1e12:.1f}" if report.model_flops else ""
    yield f"{report.work.flops / 1e12:.1f}"
    yield f"{sum(report.collective_bytes.values()) / 1e9:.2f}"
    yield f"{report.roofline.min_seconds * 1e3:.0f}"
    yield report.roofline.bottleneck
    yield f"{report.roofline.mfu:.0%}" if report.model_flops else ""
