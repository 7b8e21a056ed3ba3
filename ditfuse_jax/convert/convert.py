"""`ditfuse convert`: weights and adapters from one layout to another."""

from collections.abc import Sequence
from pathlib import Path

from ditfuse_jax.convert.adapters import adapter_to_peft, adapter_to_run
from ditfuse_jax.convert.weights import cast, merge, open_weights
from ditfuse_jax.convert.writers import write_bundle, write_original, write_run
from ditfuse_jax.errors import UserError
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.weights.peft import is_adapter
from ditfuse_jax.weights.run_paths import holds_adapter, is_run

LAYOUTS = ("run", "omnigen", "peft", "bundle")
DTYPES = ("float32", "bfloat16", "float16")


def convert(
    source: Path,
    output: Path,
    *,
    to: str | None = None,
    base: Path | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    dtype: str | None = None,
    quiet: bool = False,
) -> Path:
    """Converts weights or an adapter.

    Args:
      source: weights (a run folder, OmniGen's or diffusers' layout) or an adapter (a PEFT folder,
        or a run folder that trained one).
      output: a new folder.
      to: a name in `LAYOUTS`; by default `run` from a foreign layout, and from a run folder
        `omnigen`, or `peft` where it holds an adapter.
      base: weights under a PEFT adapter that becomes a run folder.
      adapters: merged into the weights.
      dtype: type of the written weights; by default that of the source.
      quiet: no progress bar.

    Returns:
      The folder written.

    Raises:
      UserError: an unreadable or unfit source, an impossible target, an existing output.
    """
    source, output = Path(source).expanduser(), Path(output).expanduser()
    _choice("--to", to, LAYOUTS)
    _choice("--dtype", dtype, DTYPES)
    from_peft = is_adapter(source)
    if from_peft or (is_run(source) and holds_adapter(source)):
        target = to or ("run" if from_peft else "peft")
        if adapters or dtype or target in ("omnigen", "bundle"):
            raise UserError(
                f"{source} is an adapter: to merge it, convert the weights under it with "
                f"`ditfuse convert WEIGHTS --lora {source} -o OUTPUT`"
            )
        if target == "peft":
            adapter_to_peft(source, output)
        else:
            if base is None:
                raise UserError(f"{source} is an adapter: name the weights under it with --base")
            adapter_to_run(source, base, output)
        return output
    if base is not None:
        raise UserError(f"{source} holds weights: --base is for adapters")
    weights = open_weights(source)
    if dtype == "float32":  # before anything is rounded into a narrower type
        weights = cast(weights, dtype)
    weights = cast(merge(weights, adapters), dtype)
    target = to or ("omnigen" if is_run(source) and not adapters else "run")
    if target == "peft":
        raise UserError(f"{source} holds weights, no adapter: it cannot become a PEFT folder")
    writers = {"omnigen": write_original, "bundle": write_bundle, "run": write_run}
    writers[target](weights, output, quiet=quiet)
    return output


def _choice(name: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise UserError(f"{name} {value!r} is unknown; choose from {', '.join(known)}")
