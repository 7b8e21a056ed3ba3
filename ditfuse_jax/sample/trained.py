"""A trained model in memory, ready to be used."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model import ModelConfig
from ditfuse_jax.model.attention import auto
from ditfuse_jax.model.lora import LoRAConfig, combine_trees, merge_lora
from ditfuse_jax.model.network import Network, Parameters
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.parallel.abstract import abstract_adapter
from ditfuse_jax.paths import model_path
from ditfuse_jax.prompts.fingerprint import check_tokenizer
from ditfuse_jax.sample.kept_shapes import frozen_shapes
from ditfuse_jax.sample.structure import Structure
from ditfuse_jax.weights import Adapter, Checkpoint, open_adapter, open_checkpoint
from ditfuse_jax.weights.adapters import (
    adapted_sampling,
    check_adapter_tokenizer,
    merge_adapters,
    open_weights_under,
)
from ditfuse_jax.weights.autoencoder import load_space
from ditfuse_jax.weights.quantized import quantize_checkpoint


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Attributes:
    structure: of the model, with the text slots of sampling.
    parameters: nested dict of arrays.
    space: pixels or latents.
    autoencoder: parameters of the autoencoder; empty for a model on pixels.
    model: sizes and choices of the model.
    sampling: its own sampling settings.
    tokenizer: folder of its tokenizer; None for the shipped one.
    config: the resolved config it was trained with; None for weights that were not trained here.
    name: where it comes from, for metadata and reports.
    lora: the adapters around the model, if there are any.
    partitioner: of the devices that share every batch; None for a single one.
    quantized: how the kernels of the layers are quantised, if they are; see `Network`.
    """

    structure: Structure
    parameters: Parameters
    space: Space
    autoencoder: Parameters
    model: ModelConfig
    sampling: SamplingConfig
    tokenizer: Path | str | None
    config: dict[str, Any] | None
    name: str
    lora: LoRAConfig | None = None
    partitioner: Partitioner | None = None
    quantized: str | None = None

    @property
    def network(self) -> Network:
        """The model and its adapters, with the model's own text slots."""
        return Network(self.model, self.lora, self.quantized)


@dataclasses.dataclass(frozen=True)
class WeightedAdapter:
    """An adapter to merge: its folder (PEFT's, or a run that trained one) and its weight."""

    folder: Path | str
    weight: float = 1.0

    def __str__(self) -> str:
        """How an image records it: the folder's name, or the address on the Hub with its commit."""
        place = hub.recorded(self.folder)
        name = place if hub.is_address(place) else Path(place).name
        return name if self.weight == 1 else f"{name}={self.weight:g}"

    @classmethod
    def parse(cls, text: str) -> "WeightedAdapter":
        """Reads `FOLDER` or `FOLDER=WEIGHT`.

        Raises:
          UserError: the weight is not a finite number.
        """
        folder, sign, weight = text.rpartition("=")
        if not sign or model_path(text).exists():
            return cls(model_path(text))
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"adapter {text!r}: the weight {weight!r} is not a finite number")
        return cls(model_path(folder), number)


def load_trained(
    path: Path | str,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | str | None = None,
    devices: Sequence[Any] | None = None,
    quantize: str | None = None,
) -> TrainedModel:
    """Loads a model to be used.

    Args:
      path: see `weights.open_checkpoint`.  Averaged parameters are used if a run kept them.
      adapters: merged into the weights, each times its weight.
      base: the weights under an adapter; see `open_checkpoint`.
      devices: each gets the whole model, and a share of every batch; by default the first device of
        this process has both.
      quantize: how to quantise the kernels of the layers, a name in
        `model.quantization.QUANTIZATIONS`; adapters are merged before.  By default as the model was
        written, or as the weights under its adapters were in training.

    Raises:
      UserError: there is no model, or it does not fit its config, its tokenizer or the adapters, or
        it is quantised in another way.
    """
    return load_checkpoint(open_checkpoint(path, base=base), adapters, devices, quantize)


def load_checkpoint(
    checkpoint: Checkpoint,
    adapters: Sequence[WeightedAdapter] = (),
    devices: Sequence[Any] | None = None,
    quantize: str | None = None,
) -> TrainedModel:
    """Loads an opened checkpoint; see `load_trained`."""
    checkpoint = open_weights_under(checkpoint)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    check_tokenizer(tokenizer, checkpoint.tokenizer_fingerprint, model.vocab_size, checkpoint.name)
    devices = devices or jax.local_devices()[:1]
    partitioner = Partitioner(make_mesh(MeshConfig(), devices))
    model = dataclasses.replace(model, attention=auto.for_device(model.attention, devices[0]))
    if quantize is None and checkpoint.lora:
        quantize = checkpoint.lora.quantize or None
    opened = [(_open_adapter(adapter, checkpoint), adapter.weight) for adapter in adapters]
    sampling = adapted_sampling(checkpoint.sampling, [found for found, _ in opened])
    if quantize or checkpoint.quantized:
        # Read in the stored type, layer by layer: the unquantised model may not fit the device.
        checkpoint = quantize_checkpoint(merge_adapters(checkpoint, opened), quantize)
        opened = []
    network = Network(model, checkpoint.lora, checkpoint.quantized)
    abstract = frozen_shapes(model, partitioner, checkpoint.quantized)
    if network.lora:
        abstract = combine_trees(abstract, abstract_adapter(network, partitioner))
    parameters = checkpoint.read(abstract)
    for found, weight in opened:
        parameters = merge_lora(parameters, found.leaves, found.lora.scaling * weight)
    space, autoencoder = load_space(model, checkpoint.autoencoder)
    if len(devices) > 1:
        autoencoder = jax.device_put(autoencoder, partitioner.replicated())
    bits = f", {checkpoint.quantized}" if checkpoint.quantized else ""
    return TrainedModel(
        for_sampling(network, sampling),
        parameters,
        space,
        autoencoder,
        model,
        sampling,
        tokenizer,
        checkpoint.config,
        " + ".join([checkpoint.name, *map(str, adapters)]) + bits,
        checkpoint.lora,
        partitioner if len(devices) > 1 else None,
        checkpoint.quantized,
    )


def _open_adapter(adapter: WeightedAdapter, checkpoint: Checkpoint) -> Adapter:
    found = open_adapter(adapter.folder, checkpoint.model)
    size = checkpoint.model.vocab_size
    check_adapter_tokenizer(found, adapter.folder, checkpoint.tokenizer, size)
    return found


def for_sampling(network: Network, sampling: SamplingConfig) -> Network:
    """Returns a network with the text slots of sampling."""
    model = dataclasses.replace(network.model, text_slots=sampling.text_slots)
    return dataclasses.replace(network, model=model)
