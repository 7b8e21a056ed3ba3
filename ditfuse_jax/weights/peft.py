"""PEFT's LoRA adapters: `adapter_config.json` and `adapter_model.safetensors`, both ways.

The tensors show which maps are adapted; the config holds the scaling.  Here an adapter has one rank
and one scaling.  An adapter with `rank_pattern`, `alpha_pattern` or without some layers is brought
to that form: factors are padded with zeros, and B is multiplied by the ratio of the scalings.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.fingerprint import FINGERPRINT
from ditfuse_jax.weights.maps import LinearMap, linear_maps
from ditfuse_jax.weights.omnigen import read_json
from ditfuse_jax.weights.peft_config import check_lora_config, rank_of, scaling_of
from ditfuse_jax.weights.tensors import Tensors, open_tensors, write_safetensors

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"

# In the header of the tensors, see `Adapter.distilled`.
DISTILLED = "distilled"

_PREFIX = "base_model.model."
# PEFT's state_dict has the adapter's name before `weight`; its files do not.
_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(\.(?P<adapter>[^.]+))?\.weight")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Attributes:
    lora: rank, scaling and targets.
    leaves: `lora_a` and `lora_b` of every adapted map, nested like the model's parameters.
    tokenizer_fingerprint: of the tokenizer that it was trained with, if it is known; PEFT's layout
      holds it in the header of the tensors.
    distilled: of a student that `ditfuse distill` made, the `loss` and in `sample` the sampling
      settings that it was trained for (`STUDENT_SETTINGS`); also in that header.
    """

    lora: LoRAConfig
    leaves: dict[str, Any]
    tokenizer_fingerprint: str | None = None
    distilled: Mapping[str, Any] | None = None


def is_adapter(folder: Path) -> bool:
    """Returns whether the folder is a PEFT adapter."""
    return (as_path(folder) / CONFIG).is_file()


def read_adapter(folder: Path | str, model: ModelConfig) -> Adapter:
    """Reads an adapter for a model.

    Raises:
      UserError: there is none, it was made for another model, or it does more than add a low-rank
        update.
    """
    folder = as_path(folder)
    if not is_adapter(folder):
        raise UserError(f"no adapter in {folder}: {CONFIG} is missing")
    config = read_json(folder / CONFIG)
    check_lora_config(config, folder / CONFIG)
    tensors = open_tensors(folder)
    adapter = _normalise(_factors(tensors, config, model), config, model)
    metadata = tensors.metadata()
    return dataclasses.replace(
        adapter,
        tokenizer_fingerprint=metadata.get(FINGERPRINT),
        distilled=_read_distilled(metadata.get(DISTILLED), folder / TENSORS),
    )


def write_adapter(folder: Path, adapter: Adapter, model: ModelConfig) -> None:
    """Writes an adapter into a folder, as `peft.PeftModel.from_pretrained` reads it.

    Raises:
      UserError: the folder cannot be written, or an adapted map does not exist in OmniGen.
    """
    known = {linear.path for linear in linear_maps(model)}
    if model.head != "linear":
        known.discard(("head", "output", "linear"))
    if unknown := sorted(_adapted(adapter.leaves) - known):
        raise UserError(
            f"the adapter changes {'.'.join(unknown[0])}, which OmniGen does not have or has in "
            "another shape: PEFT's layout cannot hold it"
        )
    values: dict[str, np.ndarray] = {}
    targets: list[str] = []
    for linear in linear_maps(model):
        leaves: Any = adapter.leaves
        for key in linear.path:
            leaves = leaves.get(key, {})
        if not leaves:
            continue
        a, b = np.asarray(leaves["lora_a"]), np.asarray(leaves["lora_b"])
        targets.append(_target(linear))
        for number in range(model.num_layers if linear.stacked else 1):
            one = (a[number], b[number]) if linear.stacked else (a, b)
            name = _PREFIX + linear.name.format(number)
            values[f"{name}.lora_A.weight"] = linear.factor_a_back(one[0])
            values[f"{name}.lora_B.weight"] = linear.factor_b_back(one[1])
    specs = {name: (value.dtype, value.shape) for name, value in values.items()}
    metadata = {"format": "pt"}
    if adapter.tokenizer_fingerprint:
        metadata[FINGERPRINT] = adapter.tokenizer_fingerprint
    if adapter.distilled:
        metadata[DISTILLED] = json.dumps(adapter.distilled)
    write_safetensors(folder / TENSORS, specs, values.__getitem__, metadata)
    lora = adapter.lora
    alpha = lora.alpha
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": lora.rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "target_modules": sorted(targets),
        "use_rslora": lora.use_rslora,
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "init_lora_weights": "gaussian",
        "inference_mode": True,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
    }
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _read_distilled(text: str | None, path: Path) -> dict[str, Any] | None:
    """Reads what a header says of a student.

    Raises:
      UserError: it is damaged.
    """
    if text is None:
        return None
    try:
        distilled = json.loads(text)
        SamplingConfig.from_dict(distilled["sample"])
        return {"loss": str(distilled["loss"]), "sample": distilled["sample"]}
    except (ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{path}: the header's {DISTILLED!r} cannot be read ({error}): export it again"
        ) from error


def _adapted(leaves: Mapping[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of the maps that an adapter's nested dict of factors is for."""
    if "lora_a" in leaves:
        return {path}
    return set().union(*(_adapted(inner, (*path, key)) for key, inner in leaves.items()))


def _target(linear: LinearMap) -> str:
    """Returns the name of a map in PEFT's `target_modules`."""
    return linear.name.rsplit(".", 1)[-1] if linear.stacked else linear.name


@dataclasses.dataclass(frozen=True)
class _Factor:
    """The factors of one map in one layer in PEFT's layout: A (r, in), B (out, r)."""

    a: np.ndarray
    b: np.ndarray


def _factors(
    tensors: Tensors, config: Mapping[str, Any], model: ModelConfig
) -> dict[LinearMap, dict[int, _Factor]]:
    """Returns the factors of every adapted map by layer, with checked shapes."""
    modules = {
        linear.name.format(number): (linear, number)
        for linear in linear_maps(model)
        for number in range(model.num_layers if linear.stacked else 1)
    }
    halves: dict[str, dict[str, tuple[str, np.ndarray]]] = {}
    adapters: set[str] = set()
    for name in sorted(tensors.names):
        match = _KEY.fullmatch(name.removeprefix(_PREFIX))
        module = match["module"] if match else ""
        if match is None or module not in modules:
            raise UserError(
                f"{tensors.path}: tensor {name} adapts nothing that this model can adapt "
                f"({model.num_layers} layers of width {model.hidden_size}): was it made for "
                "another model?"
            )
        adapters.add(match["adapter"] or "default")
        if len(adapters) > 1:
            raise UserError(
                f"{tensors.path} holds the adapters {', '.join(sorted(adapters))}: save one of "
                "them alone, with selected_adapters of PEFT's save_pretrained"
            )
        halves.setdefault(module, {})[match["factor"]] = name, tensors.read(name)
    if not halves:
        raise UserError(f"{tensors.path} holds no factors of an adapter")
    found: dict[LinearMap, dict[int, _Factor]] = {}
    for module, pair in halves.items():
        linear, number = modules[module]
        for factor in "AB":
            if factor not in pair:
                raise UserError(f"{tensors.path} lacks {_PREFIX}{module}.lora_{factor}.weight")
        (name_a, a), (name_b, b) = pair["A"], pair["B"]
        rank = rank_of(config, module)
        outputs, *inputs = linear.weight_shape
        ones = (1,) * len(linear.kernel)
        for name, x, expected in (
            (name_a, a, (rank, *inputs)),
            (name_b, b, (outputs, rank, *ones)),
        ):
            if x.shape != expected:
                raise UserError(
                    f"{tensors.path}: tensor {name} has shape {x.shape}, expected {expected} for "
                    f"this model and rank {rank}: was the adapter made for another one?"
                )
        found.setdefault(linear, {})[number] = _Factor(a, b)
    return found


def _normalise(
    factors: dict[LinearMap, dict[int, _Factor]], config: Mapping[str, Any], model: ModelConfig
) -> Adapter:
    """Brings all maps and layers to one rank and one scaling."""
    rank = max(len(pair.a) for layers in factors.values() for pair in layers.values())
    use_rslora = bool(config.get("use_rslora"))
    plain = not config.get("rank_pattern") and not config.get("alpha_pattern")
    # Without patterns alpha stays as it is; otherwise alpha = rank, so that the scaling is 1.
    alpha = float(config["lora_alpha"]) if plain and rank == config["r"] else float(rank)
    lora = LoRAConfig(
        rank,
        alpha,
        tuple(
            ".".join(linear.path) if not linear.stacked else linear.path[-1] for linear in factors
        ),
        use_rslora,
    )
    leaves: dict[str, Any] = {}
    for linear, layers in factors.items():
        padded = []
        for number in range(model.num_layers if linear.stacked else 1):
            pair = layers.get(number)
            if pair is None:  # a layer without adapter
                example = next(iter(layers.values()))
                pair = _Factor(np.zeros_like(example.a), np.zeros_like(example.b))
            ratio = scaling_of(config, linear.name.format(number)) / lora.scaling
            padded.append(_pad(pair, rank, ratio))
        a = [linear.factor_a(pair.a) for pair in padded]
        b = [linear.factor_b(pair.b) for pair in padded]
        inner = leaves
        for key in linear.path:
            inner = inner.setdefault(key, {})
        inner["lora_a"] = np.stack(a) if linear.stacked else a[0]
        inner["lora_b"] = np.stack(b) if linear.stacked else b[0]
    return Adapter(lora, leaves)


def _pad(pair: _Factor, rank: int, ratio: float) -> _Factor:
    more = rank - len(pair.a)
    if not more and ratio == 1:
        return pair
    a = np.pad(pair.a, [(0, more)] + [(0, 0)] * (pair.a.ndim - 1))
    b = np.pad(pair.b, [(0, 0), (0, more)] + [(0, 0)] * (pair.b.ndim - 2))
    return _Factor(a, (b.astype(np.float32) * ratio).astype(b.dtype))
