"""Reports of programs that do not fit into memory."""

from ditfuse_jax.aot.cached_compile import Compilation
from ditfuse_jax.aot.report import make_report
from ditfuse_jax.parallel.accelerators import TPUS

REFUSED = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory \
space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.

  Largest program allocations in hbm:

  1. Size: 6.00G
     Operator: op_name="jit(step)/dot_general"
     Shape: f32[3,1024]{1,0:T(8,128)}
     Allocation type: HLO temp
     ==========================
"""


def test_the_report_of_a_program_that_does_not_fit_lists_the_largest_consumers():
    refused = Compilation("", {}, 0.0, REFUSED, 1.0)
    consumers = {"parameters": 2**30, "moments": 2**31, "batch": 0}
    report = make_report("train", {}, refused, consumers, 1.0, TPUS["v5e"], [0])
    assert not report.fits
    text = "\n".join(report.lines())
    assert "DOES NOT FIT: needs 20.50 GiB of 16.00 GiB" in text
    places = [text.index(name) for name in ("jit(step)/dot_general", "moments", "parameters")]
    assert places == sorted(places)
    assert "batch" not in text


def test_a_program_that_compiles_but_is_too_large_does_not_fit():
    text = "ENTRY %main (a: f32[2]) -> f32[2] {\n  ROOT %a = f32[2]{0} parameter(0)\n}\n"
    sizes = {"argument": 15 * 2**30, "output": 2**30, "alias": 2**30, "temp": 2**31}
    done = Compilation(text, sizes, 0.0, "", 1.0)
    assert done.total_bytes == 17 * 2**30
    assert not make_report("train", {}, done, {}, 1.0, TPUS["v5e"], [0]).fits
    assert make_report("train", {}, done, {}, 1.0, TPUS["v6e"], [0]).fits
