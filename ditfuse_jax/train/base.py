"""The weights a run starts from: a run folder, or a folder in OmniGen's or diffusers' layout.

With adapters they are frozen under them; without, they are the first state.  The autoencoder and
the tokenizer that belong to weights are found beside them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import tqdm
from ml_collections import ConfigDict

from ditfuse_jax.errors import UserError
from ditfuse_jax.model import RUNTIME_FIELDS, ModelConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Parameters, init_parameters
from ditfuse_jax.model.space import LatentSpace, PixelSpace, Space
from ditfuse_jax.parallel import MeshConfig, Sharder, make_mesh
from ditfuse_jax.parallel.abstract import abstract_adapter, abstract_model
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.pipeline import Source
from ditfuse_jax.pipeline.packed import PackedSource
from ditfuse_jax.train.recipe import Config
from ditfuse_jax.train.settings import Recipe, resolve
from ditfuse_jax.train.state import Frozen
from ditfuse_jax.weights import (
    find_bundle,
    is_bundle,
    load_autoencoder,
    open_bundle,
    open_omnigen,
    read_adapter,
    read_bundle,
)
from ditfuse_jax.weights.autoencoder import fingerprint
from ditfuse_jax.weights.maps import leaves as leaf_table
from ditfuse_jax.weights.run_paths import LORA, find_checkpoint, is_run, resolve_best
from ditfuse_jax.weights.run_reader import RunReader

# What a run folder may carry with its weights, for use anywhere.
AUTOENCODER, TOKENIZER = "autoencoder", "tokenizer"

# Parts that can be added to weights trained without them: config key -> name of the parameters.
_ADDED = {"conv_stem": "source_stem"}

# These are the recipe's; the others belong to the weights.
_OF_THE_RECIPE = ("preset", "max_images", *RUNTIME_FIELDS)


@dataclasses.dataclass(frozen=True)
class Base:
    """Weights in a folder, not read yet.

    Attributes:
      model: their shape.
      autoencoder: folder of the autoencoder that belongs to them, if any.
      tokenizer: folder of the tokenizer, if it is not the shipped one.
      read: abstract parameters -> arrays of their types and shardings.
    """

    model: ModelConfig
    autoencoder: Path | None
    tokenizer: Path | None
    read: Callable[[Parameters], Parameters]


def open_base(folder: Path | str) -> Base:
    """Looks into a folder of weights.

    Raises:
      UserError: it holds none that can be used, or they contradict their config.
    """
    folder = find_bundle(folder)
    if is_run(folder):
        return _open_run(folder)
    if is_bundle(folder):
        recipe, tensors = open_bundle(folder)
        model = ModelConfig.from_dict(recipe["model"])
        return Base(model, None, None, lambda abstract: read_bundle(tensors, abstract))
    opened = open_omnigen(folder)
    return Base(
        opened.config,
        opened.autoencoder,
        opened.tokenizer,
        lambda abstract: _read_original(opened, abstract),
    )


def start_from(config: Config, folder: str) -> None:
    """Makes an unlocked recipe start from weights: their shape, autoencoder and tokenizer.

    How the model runs (`model.RUNTIME_FIELDS`) stays the recipe's.

    Raises:
      UserError: see `open_base`.
    """
    base = open_base(folder)
    kept = {name: config.model[name] for name in _OF_THE_RECIPE}
    config.model = ConfigDict(base.model.to_dict() | kept)
    config.weights = str(resolve_best(find_bundle(folder)).absolute())
    config.autoencoder = str(base.autoencoder.absolute()) if base.autoencoder else ""
    config.data.tokenizer = str(base.tokenizer.absolute()) if base.tokenizer else ""


def carried(run: Path, config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's config, with the autoencoder and the tokenizer that its run folder carries."""
    config = config | {"data": dict(config["data"])}
    if (run / AUTOENCODER).is_dir():
        config["autoencoder"] = str((run / AUTOENCODER).absolute())
    if (run / TOKENIZER).is_dir():
        config["data"]["tokenizer"] = str((run / TOKENIZER).absolute())
    return config


def load_space(recipe: Recipe) -> tuple[Space, Parameters]:
    """What the transformer works on, and the autoencoder's parameters.

    Raises:
      UserError: a model on latents without an autoencoder, or with one that does not fit.
    """
    model = recipe.model
    if model.latent_downsampling == 1:
        return PixelSpace(), {}
    check_weights(recipe)
    loaded = load_autoencoder(Path(recipe.autoencoder))
    needed = (model.latent_downsampling, model.channels)
    found = (loaded.config.downsampling, loaded.config.latent_channels)
    if found != needed:
        raise UserError(
            f"autoencoder {recipe.autoencoder} makes latents {found[0]} times smaller with "
            f"{found[1]} channels, the model needs {needed[0]} times and {needed[1]}"
        )
    return LatentSpace(loaded.config, loaded.graph), loaded.parameters


def load_frozen(recipe: Recipe, sharder: Sharder) -> tuple[Space, Frozen]:
    """What a run reads and never changes, on its devices.

    Raises:
      UserError: weights or autoencoder are missing or of another shape.
    """
    space, autoencoder = load_space(recipe)
    whole = jax.tree.map(lambda _: sharder.replicated(), autoencoder)
    base: Parameters = {}
    if recipe.lora:
        base = load_base(recipe, sharder)
    return space, Frozen(base, jax.device_put(autoencoder, whole))


def check_weights(recipe: Recipe) -> None:
    """Looks at the recipe's weights and autoencoder without reading them.

    Raises:
      UserError: they are missing or of another shape.
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
    if recipe.weights:
        _matching(recipe)


def check_moments(recipe: Recipe, sources: Sequence[Source]) -> None:
    """Moments that were packed must be those of the autoencoder that the recipe trains with.

    Args:
      recipe: names the autoencoder.
      sources: of its stream.

    Raises:
      UserError: they are of another autoencoder, or the model works on pixels.
    """
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


def load_base(recipe: Recipe, sharder: Sharder) -> Parameters:
    """The frozen model under the adapters.

    Raises:
      UserError: see `check_weights`.
    """
    check_weights(recipe)
    return _matching(recipe).read(abstract_model(recipe.model, sharder, frozen=True))


def load_initial(recipe: Recipe, abstract: Parameters) -> Parameters | None:
    """What a new run's parameters are, or None for fresh ones.

    Raises:
      UserError: weights or adapter are missing or do not fit.
    """
    if recipe.lora is None:
        return _read_or_add(recipe, abstract) if recipe.weights else None
    if not recipe.adapter:
        return None
    lora, found = open_adapter(Path(recipe.adapter), recipe.model)
    for name in ("rank", "alpha", "use_rslora"):
        if getattr(lora, name) != getattr(recipe.lora, name):
            raise UserError(
                f"adapter {recipe.adapter} has {name} {getattr(lora, name)}, the recipe "
                f"{getattr(recipe.lora, name)}: set --config.lora.{name}={getattr(lora, name)}"
            )
    if jax.tree.structure(found) != jax.tree.structure(abstract):
        raise UserError(
            f"adapter {recipe.adapter} adapts {', '.join(lora.target_modules)}, the recipe "
            f"{', '.join(recipe.lora.target_modules)}: set "
            f"--config.lora.target_modules={lora.target_modules}"
        )
    return jax.tree.map(
        lambda x, like: jax.device_put(x.astype(like.dtype), like.sharding), found, abstract
    )


def open_adapter(folder: Path, model: ModelConfig) -> tuple[LoRAConfig, Parameters]:
    """Reads an adapter: a PEFT folder, or a run folder that trained one.

    Returns:
      Its settings and its leaves, nested like the model's parameters.

    Raises:
      UserError: there is none, or it was made for another model.
    """
    folder = Path(folder).expanduser()
    if not is_run(folder):
        adapter = read_adapter(folder, model)
        return adapter.lora, adapter.leaves
    run, step = find_checkpoint(folder)
    checkpoints = RunReader(run)
    try:
        recipe = resolve(checkpoints.config(step))
        if recipe.lora is None:
            raise UserError(f"{folder} trained a whole model and holds no adapter")
        sharder = Sharder(make_mesh(MeshConfig(), jax.local_devices()[:1]))
        leaves = checkpoints.read_model(step, abstract_adapter(recipe.network, sharder))
    finally:
        checkpoints.close()
    return recipe.lora, leaves


def _read_or_add(recipe: Recipe, abstract: Parameters) -> Parameters:
    """The recipe's weights, and fresh ones of the parts that they lack."""
    base = _matching(recipe)
    added = [
        name for key, name in _ADDED.items() if name in abstract and not getattr(base.model, key)
    ]
    read = base.read({name: part for name, part in abstract.items() if name not in added})
    if not added:
        return read
    fresh = init_parameters(recipe.network, jax.random.key(recipe.seed))
    placed = {
        name: jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), fresh[name], part)
        for name, part in abstract.items()
        if name in added
    }
    return read | placed


def _matching(recipe: Recipe) -> Base:
    """The recipe's weights, whose shape must be the recipe's, but for what can be added."""
    base = open_base(recipe.weights)
    found, wanted = base.model.to_dict(), recipe.model.to_dict()
    for name in found:
        if name in _ADDED and wanted[name] and recipe.lora is None:
            continue
        if name not in _OF_THE_RECIPE and found[name] != wanted[name]:
            raise UserError(
                f"weights {recipe.weights} have model.{name} {found[name]!r}, the recipe "
                f"{wanted[name]!r}: let the recipe read them, e.g. --config "
                "omnigen_lora:FOLDER"
            )
    return base


def _open_run(folder: Path) -> Base:
    run, step = find_checkpoint(folder)
    checkpoints = RunReader(run)
    try:
        config = carried(run, checkpoints.config(step))
        if checkpoints.has(step, LORA):
            raise UserError(
                f"{folder} holds adapters, not weights: merge them first with `ditfuse convert "
                f"WEIGHTS --lora {folder} -o MERGED`"
            )
    finally:
        checkpoints.close()

    def read(abstract: Parameters) -> Parameters:
        reader = RunReader(run)
        try:
            return reader.read_model(step, abstract)
        finally:
            reader.close()

    autoencoder, tokenizer = config["autoencoder"], config["data"]["tokenizer"]
    return Base(
        ModelConfig.from_dict(config["model"]),
        Path(autoencoder) if autoencoder else None,
        Path(tokenizer) if tokenizer else None,
        read,
    )


def _read_original(opened: Any, abstract: Parameters) -> Parameters:
    """Every leaf straight into its sharding: each process reads the rows its devices hold."""
    table = leaf_table(opened.config)
    flat = jax.tree_util.tree_leaves_with_path(abstract)
    total = sum(x.size * x.dtype.itemsize for _, x in flat)
    arrays = []
    with tqdm.tqdm(
        total=total,
        unit="B",
        unit_scale=True,
        desc="weights",
        disable=not is_main_process(),
        leave=False,
    ) as bar:
        for path, x in flat:
            leaf = table[tuple(key.key for key in path)]

            def read(index, leaf=leaf, dtype=x.dtype):
                return leaf.read(opened.tensors, index).astype(dtype, copy=False)

            arrays.append(jax.make_array_from_callback(x.shape, x.sharding, read))
            bar.update(x.size * x.dtype.itemsize)
    return jax.tree.unflatten(jax.tree.structure(abstract), arrays)
