"""What a training starts from: the weights, adapter and autoencoder that its recipe names.

With low-rank adapters the weights are frozen under them; without, they are the initial parameters.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.network import Parameters, init_parameters
from ditfuse_jax.model.space import Space
from ditfuse_jax.parallel import Partitioner
from ditfuse_jax.parallel.abstract import abstract_model
from ditfuse_jax.pipeline import Source
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.prompts.fingerprint import check_tokenizer
from ditfuse_jax.train.pinned import pinned_weights
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.state import Frozen
from ditfuse_jax.weights import Checkpoint, open_adapter, open_checkpoint
from ditfuse_jax.weights.adapters import check_adapter_tokenizer
from ditfuse_jax.weights.autoencoder import fingerprint, load_space
from ditfuse_jax.weights.bundle import SHIPPED
from ditfuse_jax.weights.checkpoint import FREE_FIELDS
from ditfuse_jax.weights.quantized import quantize_checkpoint

# Parts of a model that can be added to weights that lack them: config key -> its parameters.
_OPTIONAL = {"conv_stem": "source_stem", "adjustments": "adjustments"}


def initialize_from(config: Config, path: str) -> Checkpoint:
    """Makes an unlocked recipe start from weights: sets their shape, autoencoder and tokenizer.

    How the model is run (`model.RUNTIME_FIELDS`) stays as the recipe has it.

    Args:
      config: the recipe.
      path: see `weights.open_checkpoint`.

    Returns:
      The opened weights.

    Raises:
      UserError: there are no weights, or they cannot be used.
    """
    path = pinned_weights(path)
    weights = open_weights(path)
    kept = {name: config.model[name] for name in FREE_FIELDS}
    config.model = ConfigDict(weights.model.to_dict() | kept)
    if path == SHIPPED and not Path(path).exists():
        config.weights = SHIPPED  # its folder is another one on each machine
    else:
        config.weights = hub.recorded(path if hub.is_address(path) else weights.step_path)
    config.autoencoder = hub.recorded(weights.autoencoder) if weights.autoencoder else ""
    config.data.tokenizer = hub.recorded(weights.tokenizer) if weights.tokenizer else ""
    return weights


def check_inputs(recipe: Recipe, sources: Sequence[Source]) -> None:
    """Checks everything that a training starts from, without reading weights.

    Args:
      recipe: the training's recipe.
      sources: of its data.

    Raises:
      UserError: weights, autoencoder or tokenizer are missing or do not fit.
    """
    if recipe.model.latent_downsampling > 1 and not recipe.autoencoder:
        raise UserError(
            f"preset {recipe.model.preset!r} works on latents and needs an autoencoder: start from "
            "weights that have one (e.g. --config omnigen_lora:FOLDER), or name the folder of one "
            "with --config.autoencoder=FOLDER"
        )
    if recipe.lora and not recipe.weights:
        raise UserError(
            "adapters need weights under them: give the folder after the recipe's name, e.g. "
            "--config omnigen_lora:FOLDER"
        )
    if recipe.step.teacher and not recipe.teacher:
        raise UserError(
            "this recipe distils a teacher: use `ditfuse distill TEACHER --config RECIPE`"
        )
    tokenizer, vocab_size = recipe.data.encoder.tokenizer, recipe.model.vocab_size
    check_tokenizer(tokenizer, None, vocab_size, "this model")
    if recipe.weights:
        weights = _fitting_weights(recipe)
        check_tokenizer(
            tokenizer, weights.tokenizer_fingerprint, vocab_size, f"the model in {recipe.weights}"
        )
    if recipe.teacher:
        teacher = open_weights(recipe.teacher)
        teacher.check_fits(recipe.model)
        check_tokenizer(
            tokenizer, teacher.tokenizer_fingerprint, vocab_size, f"the teacher {recipe.teacher}"
        )
    _check_moments(recipe, sources)


def load_frozen(recipe: Recipe, partitioner: Partitioner) -> tuple[Space, Frozen]:
    """Loads the parameters that a training reads and never changes, onto its devices.

    Raises:
      UserError: weights or autoencoder are missing or of another shape.
    """
    space, autoencoder = load_space(recipe.model, recipe.autoencoder)
    replicated = jax.tree.map(lambda _: partitioner.replicated(), autoencoder)
    base: Parameters = {}
    teacher: Parameters | None = None
    if recipe.lora:
        quantize = recipe.network.quantize
        abstract = abstract_model(recipe.model, partitioner, frozen=True, quantize=quantize)
        base = quantize_checkpoint(_fitting_weights(recipe), quantize).read(abstract)
    elif recipe.teacher:
        teacher = open_weights(recipe.teacher).read(
            abstract_model(recipe.model, partitioner, frozen=True)
        )
    return space, Frozen(base, jax.device_put(autoencoder, replicated), teacher)


def load_initial(recipe: Recipe, abstract: Parameters) -> Parameters | None:
    """Loads the initial trainable parameters of a new run; None for random ones.

    Args:
      recipe: names weights or an adapter.
      abstract: shapes, types and shardings of the trainable parameters.

    Raises:
      UserError: weights or adapter are missing or do not fit.
    """
    if recipe.lora is None:
        return _load_weights(recipe, abstract) if recipe.weights else None
    if not recipe.adapter:
        return None
    adapter = open_adapter(recipe.adapter, recipe.model)
    tokenizer, vocab_size = recipe.data.encoder.tokenizer, recipe.model.vocab_size
    check_adapter_tokenizer(adapter, recipe.adapter, tokenizer, vocab_size)
    lora = adapter.lora
    for name in ("rank", "alpha", "use_rslora"):
        if getattr(lora, name) != getattr(recipe.lora, name):
            raise UserError(
                f"adapter {recipe.adapter} has {name} {getattr(lora, name)}, the recipe "
                f"{getattr(recipe.lora, name)}: set --config.lora.{name}={getattr(lora, name)}"
            )
    if jax.tree.structure(adapter.leaves) != jax.tree.structure(abstract):
        raise UserError(
            f"adapter {recipe.adapter} adapts {', '.join(lora.target_modules)}, the recipe "
            f"{', '.join(recipe.lora.target_modules)}: set "
            f"--config.lora.target_modules={lora.target_modules}"
        )
    return jax.tree.map(
        lambda x, like: jax.device_put(x.astype(like.dtype), like.sharding),
        adapter.leaves,
        abstract,
    )


def _load_weights(recipe: Recipe, abstract: Parameters) -> Parameters:
    """Reads the recipe's weights; parts that they lack are initialised randomly."""
    weights = _fitting_weights(recipe)
    added = [
        name
        for key, name in _OPTIONAL.items()
        if name in abstract and not getattr(weights.model, key)
    ]
    read = weights.read({name: part for name, part in abstract.items() if name not in added})
    if not added:
        return read
    fresh = init_parameters(recipe.network, jax.random.key(recipe.seed))
    placed = {
        name: jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), fresh[name], part)
        for name, part in abstract.items()
        if name in added
    }
    return read | placed


def _fitting_weights(recipe: Recipe) -> Checkpoint:
    weights = open_weights(recipe.weights)
    weights.check_fits(recipe.model, optional=() if recipe.lora else _OPTIONAL)
    if weights.quantized and weights.quantized != recipe.network.quantize:
        raise UserError(
            f"weights {recipe.weights} are quantised as {weights.quantized}: they can only stay "
            f"frozen under adapters, with --config.lora.quantize={weights.quantized}"
        )
    return weights


def open_weights(path: str) -> Checkpoint:
    """Opens weights without adapters; see `weights.open_checkpoint`.

    Raises:
      UserError: there are none, or only adapters.
    """
    weights = open_checkpoint(path)
    if weights.lora:
        raise UserError(
            f"{path} holds adapters, not weights: merge them first with `ditfuse convert WEIGHTS "
            f"--lora {path} -o MERGED`"
        )
    return weights


def _check_moments(recipe: Recipe, sources: Sequence[Source]) -> None:
    """Checks that packed moments were computed by the autoencoder that the recipe names."""
    for source in sources:
        if not isinstance(source, PackedSource) or source.moments is None:
            continue
        if not recipe.autoencoder:
            raise UserError(
                f"{source.folder} holds moments of an autoencoder, but the model works on pixels: "
                "pack the photographs without --autoencoder"
            )
        if source.options["autoencoder"] != fingerprint(recipe.autoencoder):
            raise UserError(
                f"{source.folder} holds moments of another autoencoder than "
                f"{recipe.autoencoder}: pack the photographs again with this one"
            )
