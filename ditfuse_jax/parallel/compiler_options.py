"""Options of XLA's compiler, by chip; `train` and `compile` use the same ones.

`train.compiler_options` is a list of `name=value` and `auto`, which stands for the chip's options
in `COMPILER_OPTIONS`.  A later entry wins, and what the user has set in `XLA_FLAGS` or
`LIBTPU_INIT_ARGS` wins over `auto`.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.parallel.accelerators import chip_of
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.registry import Registry
from ditfuse_jax.xla.user_flags import options_of_user

AUTO = "auto"
# The compiler of CPUs and GPUs takes no text for them.
_BOOLEANS = {"true": True, "false": False}

# Only options whose source recommends them for this kind of program, or whose effect was seen in a
# compiled program (docs/scaling.md).
#
# Gradients between slices, summed while earlier layers are computed.  Documented in "XLA flags
# guidance" (openxla.org/xla/flags_guidance), section "TPU XLA flags"; maxtext sets both for data
# parallelism across slices.  Programs for one slice have no such sums.
_BETWEEN_SLICES = {
    "xla_tpu_enable_data_parallel_all_reduce_opt": "true",
    "xla_tpu_data_parallel_opt_different_sized_ops": "true",
}
# Products of sharded weights are split into one part per device, whose sums are read and written by
# each part: compiled for v6e:4x4 this raises the memory traffic of a step of `omnigen` from 0.55 to
# 1.31 TB (docs/scaling.md).  maxtext turns it off in the same way ("DISABLE_COLLECTIVE_MATMUL").
_WHOLE_PRODUCTS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}
# libtpu 0.0.42 fails with an internal check if it runs a collective on v7x's sparse cores (seen).
_WITHOUT_SPARSE_CORES = {
    f"xla_tpu_enable_sparse_core_collective_offload_{kind}": "false"
    for kind in ("all_reduce", "reduce_scatter", "all_gather")
}
# Collectives overlap with computation.  Off by default in XLA; on in NVIDIA's JAX containers
# (docs.nvidia.com/jax-toolbox, "Environment variables") and recommended by docs.jax.dev, "GPU
# performance tips".  Its effect here was not measured.
_LATENCY_HIDING = {"xla_gpu_enable_latency_hiding_scheduler": "true"}
_OPTIONS: dict[str, Mapping[str, str]] = {
    "v5e": _BETWEEN_SLICES,
    "v5p": _BETWEEN_SLICES,
    "v6e": {**_BETWEEN_SLICES, **_WHOLE_PRODUCTS},
    "v7x": {**_BETWEEN_SLICES, **_WITHOUT_SPARSE_CORES},
    "h100": _LATENCY_HIDING,
    "h200": _LATENCY_HIDING,
}

# Chip (`accelerators.chip_of`) -> option -> value.
COMPILER_OPTIONS: Registry[Mapping[str, str]] = Registry("chip", _OPTIONS)


def check_compiler_options(settings: Sequence[str]) -> None:
    """Checks the form of `train.compiler_options`; only the compiler knows the names.

    Raises:
      UserError: an entry is neither `auto` nor `name=value`.
    """
    for entry in settings:
        if entry != AUTO and not re.fullmatch(r"\w+=\S+", entry):
            raise UserError(
                f"train.compiler_options: {entry!r} is neither {AUTO!r} nor NAME=VALUE, like "
                "xla_latency_hiding_scheduler_rerun=2"
            )


def compiler_options(settings: Sequence[str], device: Any) -> dict[str, str]:
    """Returns the options for a device.

    Args:
      settings: `train.compiler_options`.
      device: a JAX device; of a topology that programs are only compiled for, too.
    """
    chip = chip_of(getattr(device, "device_kind", ""))
    known = COMPILER_OPTIONS.get(chip or "", {})
    already = options_of_user()
    options: dict[str, str] = {}
    for entry in settings:
        if entry == AUTO:
            options |= {name: value for name, value in known.items() if name not in already}
        else:
            name, _, value = entry.partition("=")
            options[name] = value
    return options


def compile_with_options(lowered: jax.stages.Lowered, options: Mapping[str, Any]) -> Any:
    """Compiles a program with options.

    Compilers know different options: what an entry of `COMPILER_OPTIONS` sets is left out, with a
    warning, if this one refuses it.

    Raises:
      UserError: the compiler does not know another option or does not take its value; it is named.
    """
    given: dict[str, Any] = {
        name: _BOOLEANS.get(str(value).lower(), value) for name, value in options.items()
    }
    while True:
        try:
            return lowered.compile(compiler_options=given or None)
        except jax.errors.JaxRuntimeError as error:
            found = [name for name in given if name in str(error)]
            if not found or "INVALID_ARGUMENT" not in str(error):
                raise
            name, value = found[0], options[found[0]]
            reason = " ".join(str(error).split())
            if all(table.get(name) != value for table in COMPILER_OPTIONS.values()):
                raise UserError(
                    f"train.compiler_options: the compiler refuses {name}={value} ({reason})"
                ) from error
            del given[name]
            if is_main_process():
                line = f"warning: {name}={value} is left out: this compiler refuses it ({reason})"
                tqdm.tqdm.write(line, file=sys.stderr)
