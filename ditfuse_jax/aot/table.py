"""The table of `docs/scaling.md`, made by compiling its cases."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ditfuse_jax.aot.plan import Case, compile_case
from ditfuse_jax.aot.report import Report
from ditfuse_jax.aot.topology import Topology
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text

# The cases of the table, in its order.
_SPLASH = ("--config.model.attention=splash",)  # of TPUs; `xla` stores all scores in HBM
_PROJECTIONS = (*_SPLASH, "--config.model.remat=projections")
CASES: Sequence[tuple[Case, Topology]] = (
    (Case("omnigen", batch=256), Topology("v5p", (4, 4, 4))),
    (Case("omnigen", batch=1024), Topology("v6e", (16, 16))),
    (Case("omnigen", batch=1024, overrides=_SPLASH), Topology("v6e", (16, 16))),
    (Case("omnigen", batch=256, overrides=_PROJECTIONS), Topology("v5p", (4, 4, 4))),
    (Case("omnigen", batch=512, overrides=_PROJECTIONS), Topology("v6e", (16, 16))),
    (Case("omnigen", "sample", side=1024, batch=1, overrides=_SPLASH), Topology("v6e", (2, 4))),
    (Case("omnigen", batch=2048), Topology("v5p", (8, 8, 8))),
    (Case("omnigen", batch=2048, overrides=_SPLASH), Topology("v6e", (16, 16), slices=2)),
    (Case("omnigen", batch=2048, side=256, overrides=_SPLASH), Topology("v6e", (16, 16))),
    (Case("omnigen", batch=256, side=1024, overrides=_SPLASH), Topology("v6e", (16, 16))),
    (Case("omnigen", batch=512, overrides=_SPLASH), Topology("v5e", (16, 16))),
    (Case("omnigen", batch=32, lora=True, overrides=_SPLASH), Topology("v6e", (2, 4))),
    (Case("omnigen", batch=512, overrides=_SPLASH), Topology("v7x", (4, 4, 4))),
)
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
    path: Path, *, missing: bool = False, quick: bool = False, folder: Path | None = None
) -> None:
    """Puts the table of all cases into a document, between its marks, and renews it case by case.

    A case's rows stay as they are until it is compiled.

    Args:
      path: the document.
      missing: compile only the cases whose rows the document does not have.
      quick, folder: see `compile_lowered`.

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
        reports = compile_case(case, topology, quick=quick, folder=folder)
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
    case: Case, topology: Topology, known: dict[tuple[str, ...], list[str]]
) -> list[list[str]]:
    """A case's rows in the document, or one that says it is not compiled yet."""
    changed = dict(word.removeprefix("--config.model.").split("=") for word in case.overrides)
    attention = changed.get("attention", "xla")
    kept = changed.get("remat", "attention")
    names = ["encode", "sample", "decode"] if case.what == "sample" else [case.what]
    if case.lora:
        names = [f"{name}, adapters" for name in names]
    where = f"{topology}", f"{case.side}", f"{case.batch}"
    keys = [(name, attention, "" if case.what == "sample" else kept, *where) for name in names]
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
    yield str(facts["side"])
    yield str(facts["batch"])
    if not report.fits or report.work is None or report.bound is None:
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
    yield f"{report.bound.least * 1e3:.0f}"
    yield report.bound.by
    yield f"{report.bound.mfu:.0%}" if report.model_flops else ""
