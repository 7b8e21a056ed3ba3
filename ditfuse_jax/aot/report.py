"""Reports of compiled programs: memory, work and a bound of the time, per device."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ditfuse_jax.aot.cached_compile import Compilation
from ditfuse_jax.aot.collectives import collectives
from ditfuse_jax.aot.cost_analysis import hbm_bytes, matrix_flops, unknown_kernels
from ditfuse_jax.aot.overlap import Overlap, overlap
from ditfuse_jax.aot.roofline import Roofline, Work, roofline
from ditfuse_jax.model.attention import AttentionMask
from ditfuse_jax.parallel.accelerators import Accelerator
from ditfuse_jax.xla.hlo import parse_hlo
from ditfuse_jax.xla.memory import largest_allocations, out_of_memory_bytes

_GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Report:
    """One program on one topology; all numbers are per device.

    Attributes:
      program: `train`, `encode`, `sample` or `decode`.
      facts: settings, for display.
      fits: whether the program fits into memory.
      bytes: bytes of memory by kind, and `total`; if the program does not fit, `needed` and
        `available` where the compiler reports them.
      hbm_bytes: memory of the device.
      consumers: bytes of the known parts of the memory.
      model_flops: FLOPs that the method requires; 0 for the autoencoder's programs.
      xla_flops: XLA's own count of executed FLOPs, in which a loop's body counts once.
      work: executed work, loops counted as often as they run.
      collective_bytes: bytes sent, by kind of collective.
      overlap: how many collectives run while products are computed.
      roofline: lower bound of the time and upper bound of the utilisation.
      unknown_loops: loops whose trip count could not be determined.
      unknown_kernels: kernels whose FLOPs are not counted.
      seconds: compilation time.
      cached: whether the compilation was read from the cache.
    """

    program: str
    facts: dict[str, Any]
    fits: bool
    bytes: dict[str, int]
    hbm_bytes: int
    consumers: dict[str, int]
    model_flops: float
    xla_flops: float = 0.0
    work: Work | None = None
    collective_bytes: dict[str, float] = dataclasses.field(default_factory=dict)
    overlap: Overlap | None = None
    roofline: Roofline | None = None
    unknown_loops: tuple[str, ...] = ()
    unknown_kernels: tuple[str, ...] = ()
    seconds: float = 0.0
    cached: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON-serialisable values."""
        values = dataclasses.asdict(self)
        if self.roofline:
            values["roofline"] |= {
                "bottleneck": self.roofline.bottleneck,
                "min_seconds": self.roofline.min_seconds,
            }
        return values | {"note": "bound: peak rates and perfect overlap, not a measurement"}

    def lines(self) -> list[str]:
        """Returns the report as lines of text."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        lines = [f"{self.program}: {facts}"]
        hbm = self.hbm_bytes / _GIB
        if not self.fits:
            needed = self.bytes.get("needed")
            needs = f"needs {needed / _GIB:.2f} GiB" if needed else "needs more than available"
            lines.append(f"  DOES NOT FIT: {needs} of {hbm:.2f} GiB; the largest consumers:")
            lines += [f"    {size / _GIB:8.2f} GiB  {name}" for name, size in _sorted(self)]
            return lines
        sizes = ", ".join(f"{kind} {size / _GIB:.2f}" for kind, size in self.bytes.items())
        lines.append(f"  memory, GiB of {hbm:.2f}: {sizes}")
        parts = ", ".join(f"{name} {size / _GIB:.2f}" for name, size in _sorted(self))
        lines.append(f"    of which {parts}")
        assert self.work is not None and self.roofline is not None
        lines.append(
            f"  TFLOP: model {self.model_flops / 1e12:.2f}, executed {self.work.flops / 1e12:.2f}"
            f" (XLA's count, loop bodies once: {self.xla_flops / 1e12:.2f})"
        )
        sent = ", ".join(f"{k} {v / 1e9:.3f}" for k, v in self.collective_bytes.items()) or "none"
        lines.append(f"  GB: memory traffic {self.work.hbm / 1e9:.1f}; sent by collectives {sent}")
        if self.overlap and self.overlap != Overlap(0, 0, 0):
            lines.append(
                f"  collectives, a loop's once: {self.overlap.asynchronous} asynchronous, "
                f"{self.overlap.during_products} of them during products; "
                f"{self.overlap.synchronous} synchronous"
            )
        times = ", ".join(f"{need} {s * 1e3:.1f}" for need, s in self.roofline.seconds.items())
        mfu = f", MFU at most {self.roofline.mfu:.1%}" if self.model_flops else ""
        lines.append(
            "  bound, not a measurement: at least "
            f"{self.roofline.min_seconds * 1e3:.1f} ms{mfu} ({times})"
        )
        if self.unknown_loops:
            lines.append(f"    loops of unknown length, counted once: {len(self.unknown_loops)}")
        if self.unknown_kernels:
            lines.append(f"    kernels of unknown work, not counted: {len(self.unknown_kernels)}")
        how = "cached; compiled in" if self.cached else "compiled in"
        lines.append(f"  {how} {self.seconds:.0f} s")
        return lines


def make_report(
    program: str,
    facts: dict[str, Any],
    compilation: Compilation,
    consumers: dict[str, int],
    model_flops: float,
    accelerator: Accelerator,
    slice_of: Sequence[int],
    masks: Sequence[AttentionMask] = (),
) -> Report:
    """Creates the report of a compilation.

    Args:
      program: name of the program.
      facts: settings, for display.
      compilation: result of the compiler.
      consumers: bytes of known parts of a device's memory.
      model_flops: model FLOPs per device.
      accelerator: the device's peak rates.
      slice_of: for each device, the index of its slice.
      masks: masks of the attention in the program.
    """
    common: dict[str, Any] = {
        "program": program,
        "facts": facts,
        "hbm_bytes": int(accelerator.hbm_bytes),
        "model_flops": model_flops,
        "seconds": compilation.seconds,
        "cached": compilation.cached,
    }
    if compilation.out_of_memory:
        found = out_of_memory_bytes(compilation.out_of_memory)
        sizes = {"needed": found[0], "available": found[1]} if found else {}
        listed = dict(largest_allocations(compilation.out_of_memory))
        return Report(fits=False, bytes=sizes, consumers=consumers | listed, **common)
    module = parse_hlo(compilation.hlo)
    sent: dict[str, float] = {}
    ici = dcn = 0.0
    for one in collectives(module, slice_of):
        bytes_sent = one.runs * one.sent
        sent[one.kind] = sent.get(one.kind, 0.0) + bytes_sent
        if one.crosses:
            dcn += bytes_sent
        else:
            ici += bytes_sent
    work = Work(matrix_flops(module, masks), hbm_bytes(module), ici, dcn)
    return Report(
        fits=compilation.total_bytes <= accelerator.hbm_bytes,
        bytes=compilation.bytes | {"total": compilation.total_bytes},
        consumers=consumers,
        xla_flops=compilation.xla_flops,
        work=work,
        collective_bytes=sent,
        overlap=overlap(compilation.hlo),
        roofline=roofline(work, model_flops, accelerator),
        unknown_loops=module.unknown_loops,
        unknown_kernels=unknown_kernels(module, masks),
        **common,
    )


def _sorted(report: Report) -> list[tuple[str, int]]:
    items = [(name, size) for name, size in report.consumers.items() if size]
    return sorted(items, key=lambda item: -item[1])
