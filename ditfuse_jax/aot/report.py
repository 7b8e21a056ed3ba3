"""What is told of a compiled program: memory, work and bounds, per device."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ditfuse_jax.aot.cached_compile import Compilation
from ditfuse_jax.aot.cost_analysis import collectives, hbm_bytes, matrix_flops, unknown_kernels
from ditfuse_jax.aot.hlo import parse_hlo
from ditfuse_jax.aot.memory import refused_allocations, refused_bytes
from ditfuse_jax.aot.roofline import Roofline, Work, roofline
from ditfuse_jax.model.attention import AttentionMask
from ditfuse_jax.parallel.accelerators import Accelerator

_GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Report:
    """One program on one topology; all numbers are per device.

    Attributes:
      program: `train`, `encode`, `sample` or `decode`.
      facts: what was compiled.
      fits: whether the compiler found room for it.
      bytes: memory by kind, and `total`; of a refused program what the compiler told.
      hbm_bytes: of the device.
      consumers: the known parts of the memory, largest first.
      model_flops: that the method needs; 0 for the autoencoder's programs, which have no count.
      xla_flops: XLA's own count of what is executed; a loop's body counts once.
      work: what is executed, loops as often as they run.
      collective_bytes: sent per kind.
      bound: the least time and the most utilisation.
      unknown_loops: loops whose trip count could not be read.
      unknown_kernels: kernels whose FLOPs are not counted.
      seconds: that compiling took.
      cached: it was compiled before.
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
    roofline: Roofline | None = None
    unknown_loops: tuple[str, ...] = ()
    unknown_kernels: tuple[str, ...] = ()
    seconds: float = 0.0
    cached: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = dataclasses.asdict(self)
        if self.roofline:
            values["roofline"] |= {
                "bottleneck": self.roofline.bottleneck,
                "min_seconds": self.roofline.min_seconds,
            }
        return values | {"note": "bound: peak rates and perfect overlap, not a measurement"}

    def lines(self) -> list[str]:
        """For people."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        lines = [f"{self.program}: {facts}"]
        hbm = self.hbm_bytes / _GIB
        if not self.fits:
            told = self.bytes.get("needed")
            needs = f"needs {told / _GIB:.2f} GiB" if told else "needs more than there is"
            lines.append(f"  DOES NOT FIT: {needs} of {hbm:.2f} GiB; the largest consumers:")
            lines += [f"    {size / _GIB:8.2f} GiB  {name}" for name, size in _sorted(self)]
            return lines
        told = ", ".join(f"{kind} {size / _GIB:.2f}" for kind, size in self.bytes.items())
        lines.append(f"  memory, GiB of {hbm:.2f}: {told}")
        parts = ", ".join(f"{name} {size / _GIB:.2f}" for name, size in _sorted(self))
        lines.append(f"    of which {parts}")
        assert self.work is not None and self.roofline is not None
        lines.append(
            f"  TFLOP: model {self.model_flops / 1e12:.2f}, executed {self.work.flops / 1e12:.2f}"
            f" (XLA's count, loop bodies once: {self.xla_flops / 1e12:.2f})"
        )
        sent = ", ".join(f"{k} {v / 1e9:.3f}" for k, v in self.collective_bytes.items()) or "none"
        lines.append(f"  GB: memory traffic {self.work.hbm / 1e9:.1f}; sent by collectives {sent}")
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


def examine(
    program: str,
    facts: dict[str, Any],
    done: Compilation,
    consumers: dict[str, int],
    model_flops: float,
    chip: Accelerator,
    slice_of: Sequence[int],
    masks: Sequence[AttentionMask] = (),
) -> Report:
    """Reads a compilation.

    Args:
      program: its name.
      facts: what was compiled.
      done: the compiler's answer.
      consumers: known parts of a device's memory.
      model_flops: a device's share.
      chip: peaks.
      slice_of: the slice of each device.
      masks: of the attention in the program.
    """
    common: dict[str, Any] = {
        "program": program,
        "facts": facts,
        "hbm_bytes": int(chip.hbm_bytes),
        "model_flops": model_flops,
        "seconds": done.seconds,
        "cached": done.cached,
    }
    if done.out_of_memory:
        told = refused_bytes(done.out_of_memory)
        sizes = {"needed": told[0], "available": told[1]} if told else {}
        listed = dict(refused_allocations(done.out_of_memory))
        return Report(fits=False, bytes=sizes, consumers=consumers | listed, **common)
    module = parse_hlo(done.hlo)
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
        fits=done.total_bytes <= chip.hbm_bytes,
        bytes=done.bytes | {"total": done.total_bytes},
        consumers=consumers,
        xla_flops=done.xla_flops,
        work=work,
        collective_bytes=sent,
        roofline=roofline(work, model_flops, chip),
        unknown_loops=module.unknown_loops,
        unknown_kernels=unknown_kernels(module, masks),
        **common,
    )


def _sorted(report: Report) -> list[tuple[str, int]]:
    items = [(name, size) for name, size in report.consumers.items() if size]
    return sorted(items, key=lambda item: -item[1])
