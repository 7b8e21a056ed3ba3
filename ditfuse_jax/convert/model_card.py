"""The model card of a folder for the Hub: `README.md` with a YAML header.

It names the licence and the base, says how to use the model, and holds the numbers that were
measured with it: those of `ditfuse evaluate` in the run folder, and those of the evaluations during
training.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ditfuse_jax import __version__, hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.hub import HubAddress
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.weights import Checkpoint
from ditfuse_jax.weights.adapters import open_weights_under
from ditfuse_jax.weights.license import find_license
from ditfuse_jax.weights.quantized import num_parameters

FILE = "README.md"

# The licence of the models that come with this package, and of those derived from them.
_OWN_LICENSE = "LicenseRef-DiTFuse-Weights"
_PROJECT = "ditfuse_jax"
# The folders that lead to a file, which are nobody's business.
_FOLDERS = re.compile(r"(?<![^:@ ])[~.]?/(\S*/)?")
_METHOD = "https://arxiv.org/abs/2512.07170"


def model_card(
    checkpoint: Checkpoint,
    address: HubAddress,
    *,
    merged: Sequence[WeightedAdapter] = (),
    dtype: str | None = None,
    quantize: str | None = None,
) -> str:
    """Returns the card of a converted checkpoint.

    Args:
      checkpoint: what was converted.
      address: the repository that it is for.
      merged: adapters that were merged into it.
      dtype: type that its parameters were converted to, if they were.
      quantize: how its kernels were quantised, if they were; see `convert`.
    """
    checkpoint = open_weights_under(checkpoint)
    changes = [f"the adapter `{adapter}` merged" for adapter in merged]
    changes += [f"parameters in {dtype}"] if dtype else []
    if quantize and quantize != checkpoint.quantized:
        changes.append(f"kernels in {quantize}")
    sections = [
        f"# {address.repository.split('/')[1]}",
        _what(checkpoint, changes),
        f"## Use\n\n{_use(checkpoint, address)}",
        f"## Numbers\n\n{_numbers(checkpoint, changes)}",
        f"## Licence\n\n{_license(checkpoint)}",
    ]
    header = yaml.safe_dump(_header(checkpoint), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n" + "\n\n".join(sections) + "\n"


def _header(checkpoint: Checkpoint) -> dict[str, Any]:
    """Returns the metadata that the Hub reads (huggingface.co/docs/hub/model-cards)."""
    terms = find_license(checkpoint)
    own = terms is not None and _OWN_LICENSE in terms.read_text(encoding="utf-8")
    licence = {
        "license": "other",
        "license_name": "ditfuse-weights" if own else "see-license",
        "license_link": terms.name if terms else "",
    }
    base = _base(checkpoint)
    based: dict[str, Any] = {}
    if hub.is_address(base):
        based["base_model"] = HubAddress.parse(base).repository
        based["base_model_relation"] = "adapter" if checkpoint.lora else "finetune"
    return {
        **(licence if terms else {}),
        "library_name": _PROJECT,
        "pipeline_tag": "image-to-image",
        "tags": [
            "image-fusion",
            "jax",
            "flax",
            "diffusion",
            *(["lora"] if checkpoint.lora else []),
        ],
        **based,
    }


def _what(checkpoint: Checkpoint, changes: Sequence[str]) -> str:
    model = checkpoint.model
    count = num_parameters(checkpoint)
    space = "pixels" if model.latent_downsampling == 1 else "latents of an autoencoder"
    lines = [
        "Instruction-driven image fusion: a diffusion transformer takes two or more registered "
        f"images and a sentence, and returns one image ([DiTFuse]({_METHOD})).",
        "",
        "| | |",
        "|---|---|",
        f"| preset | `{model.preset}`: {model.num_layers} layers of width {model.hidden_size}, "
        f"on {space} |",
        f"| parameters | {count / 1e6:.1f} M |",
    ]
    if checkpoint.quantized and not checkpoint.lora:
        lines.append(f"| kernels | {checkpoint.quantized} |")
    if lora := checkpoint.lora:
        maps = ", ".join(f"`{name}`" for name in lora.target_modules)
        lines.append(f"| adapter | LoRA of {maps}, rank {lora.rank}, alpha {lora.alpha:g} |")
    if base := _base(checkpoint):
        how = "adapts" if checkpoint.lora else "started from"
        lines.append(f"| {how} | `{base if hub.is_address(base) else Path(base).name}` |")
    if checkpoint.step:
        lines.append(f"| training | {checkpoint.step} updates |")
    if changes:
        lines.append(f"| converted | {', '.join(changes)} |")
    lines.append(f"| written by | {_PROJECT} {__version__} |")
    return "\n".join(lines)


def _use(checkpoint: Checkpoint, address: HubAddress) -> str:
    if checkpoint.lora:
        base = _base(checkpoint)
        weights = base if hub.is_address(base) else f"FOLDER_OF_{Path(base or 'WEIGHTS').name}"
        options, arguments = f"--checkpoint {weights} --lora {address}", f', base="{weights}"'
    else:
        options, arguments = f"--checkpoint {address}", ""
    return (
        f"```\nditfuse fuse vis.png ir.png -o fused.png {options} --task ivif\n```\n\n"
        "From Python:\n\n"
        "```python\nfrom ditfuse_jax.weights import open_checkpoint\n\n"
        f'checkpoint = open_checkpoint("{address}"{arguments})\n```'
    )


def _numbers(checkpoint: Checkpoint, changes: Sequence[str]) -> str:
    tables = [*_report(checkpoint), *_training_evaluations(checkpoint)]
    if not tables:
        return "None were measured with these weights by `ditfuse evaluate`."
    if changes:
        tables.insert(0, "Measured before the conversion; " + ", ".join(changes) + " since.")
    return "\n\n".join(tables)


def _report(checkpoint: Checkpoint) -> list[str]:
    """Returns the scores of the report in the run folder, if it is about this checkpoint."""
    path = checkpoint.path / "report.json"
    if checkpoint.kind != "run" or not path.is_file():
        return []
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        run = report["run"]
        if run.get("checkpoint") != checkpoint.name:
            return []  # also a report on existing images, which names none
        scores: dict[str, Mapping[str, float]] = {
            name: value for name, value in report.items() if _is_scores(value, name)
        }
        methods = list(dict.fromkeys(m for row in scores.values() for m in row))
        rows = [
            [name, *(_number(row.get(method)) for method in methods)]
            for name, row in scores.items()
        ]
        excluded = f", {len(report['excluded'])} excluded" if report["excluded"] else ""
        data = _FOLDERS.sub("", str(run["data"]))
        preset = run.get("preset", "canonical")
        followed = "" if preset == "canonical" else f", metrics of the preset `{preset}`"
        title = f"`ditfuse evaluate` on `{data}`, {report['count']} images{excluded}{followed}:"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a report of `ditfuse evaluate` ({error!r})") from error
    return [f"{title}\n\n{_table(['metric', *methods], rows)}"] if rows else []


def _training_evaluations(checkpoint: Checkpoint) -> list[str]:
    """Returns the scalars of the evaluations during training at this step."""
    path = checkpoint.path / "metrics.jsonl"
    if checkpoint.step is None or not path.is_file():
        return []
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if record.get("step") == checkpoint.step:
            found |= {k.removeprefix("eval/"): v for k, v in record.items() if k[:5] == "eval/"}
    if not found:
        return []
    rows = [[name, _number(value)] for name, value in sorted(found.items())]
    title = f"Evaluations during training, at update {checkpoint.step}:"
    return [f"{title}\n\n{_table(['scalar', 'value'], rows)}"]


def _license(checkpoint: Checkpoint) -> str:
    terms = find_license(checkpoint)
    if terms is None:
        return (
            "No licence was found with the weights.  Whoever publishes them has to state the one "
            "that the weights, what they were trained from and the training data permit."
        )
    if _OWN_LICENSE in terms.read_text(encoding="utf-8"):
        return (
            f"[{_OWN_LICENSE}]({terms.name}): research and non-commercial use only; it applies to "
            "derived models too."
        )
    return f"See [{terms.name}]({terms.name})."


def _base(checkpoint: Checkpoint) -> str:
    """Returns the weights that a model was trained from: an address, a path, or empty."""
    if checkpoint.base is not None:
        return hub.recorded(checkpoint.base)
    return str((checkpoint.config or {}).get("weights") or "")


def _is_scores(value: Any, name: str) -> bool:
    return isinstance(value, dict) and name not in ("run", "images", "excluded")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"
