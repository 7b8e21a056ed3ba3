"""`ditfuse convert`: weights and adapters from one layout to another."""

import functools
from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax import hub
from ditfuse_jax.convert.layouts import ADAPTER_LAYOUTS, LAYOUTS, QUANTIZED_LAYOUTS
from ditfuse_jax.convert.model_card import model_card
from ditfuse_jax.convert.publish import add_card
from ditfuse_jax.convert.transforms import cast, merge
from ditfuse_jax.convert.write_run import write_run
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.quantization import QUANTIZATIONS
from ditfuse_jax.paths import as_path, is_remote, model_path
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.weights import open_checkpoint
from ditfuse_jax.weights.quantized import quantize_checkpoint, refuse_quantized

DTYPES = ("float32", "bfloat16", "float16")


def convert(
    source: Path | str,
    output: Path,
    *,
    to: str | None = None,
    base: Path | str | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    dtype: str | None = None,
    quantize: str | None = None,
    push: str = "",
    quiet: bool = False,
) -> Path:
    """Converts weights or an adapter.

    Args:
      source: weights or an adapter; see `weights.open_checkpoint`.
      output: a new folder.
      to: a name in `LAYOUTS`; by default `run` for a foreign layout or a bundle, and for a run
        folder `omnigen`, or `peft` if it holds an adapter.
      base: the weights under an adapter.
      adapters: merged into the weights.
      dtype: type of the written weights; by default that of the source.
      quantize: how to quantise the kernels of the layers, a name in
        `model.quantization.QUANTIZATIONS`, after adapters are merged; for `QUANTIZED_LAYOUTS`.
      push: the repository on the Hub that the folder is for: a model card is written into it, and
        `push` uploads it.
      quiet: no progress bar.

    Returns:
      The folder written.

    Raises:
      UserError: the source cannot be read or does not fit the target, or the output exists.
    """
    source, output = model_path(source), as_path(output)
    if push:
        hub.push_address(push)
        if is_remote(output):
            raise UserError(f"--push uploads a local folder, not {output}: give another -o OUTPUT")
    if to is not None:
        LAYOUTS.find(to)
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype!r} is unknown; choose from {', '.join(DTYPES)}")
    if quantize is not None:
        QUANTIZATIONS.find(quantize)
    checkpoint = original = open_checkpoint(source, base=base)
    if checkpoint.lora:
        target = to or ("run" if checkpoint.kind == "peft" else "peft")
        if adapters or dtype or quantize or target not in ADAPTER_LAYOUTS:
            raise UserError(
                f"{source} is an adapter: to merge it, convert the weights under it with "
                f"`ditfuse convert WEIGHTS --lora {source} -o OUTPUT`"
            )
    else:
        if base is not None:
            raise UserError(f"{source} holds weights: --base is for adapters")
        target = to or ("omnigen" if checkpoint.kind == "run" and not adapters else "run")
        if quantize and to is None:
            target = "run"
        if dtype:
            refuse_quantized(checkpoint, "convert the original weights")
        if dtype == "float32":  # before anything is rounded to a narrower type
            checkpoint = cast(checkpoint, dtype)
        checkpoint = quantize_checkpoint(cast(merge(checkpoint, adapters), dtype), quantize)
        if checkpoint.quantized and target not in QUANTIZED_LAYOUTS:
            raise UserError(
                f"the layout {target} cannot hold kernels quantised as {checkpoint.quantized}: "
                f"choose --to {' or '.join(QUANTIZED_LAYOUTS)}"
            )
    card = ""
    if push:  # before anything is written
        address = hub.push_address(push)
        card = model_card(original, address, merged=adapters, dtype=dtype, quantize=quantize)
    write = LAYOUTS.find(target)
    if push and write is write_run:
        write = functools.partial(write_run, portable=True)
    write(checkpoint, output, quiet=quiet)
    if push:
        add_card(output, card, original)
    return output
