"""Writing a model as an ONNX graph of one tile, with all that is needed to fuse with it.

The folder holds `model.onnx`, `settings.json`, `prompts.json` (token ids of the standard tasks),
the tokenizer, the weights' licence and `example.py`, which needs NumPy, Pillow and onnxruntime.
"""

import dataclasses
import importlib
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.convert.output import new_folder
from ditfuse_jax.convert.without_empty_arrays import without_empty_arrays
from ditfuse_jax.errors import UserError
from ditfuse_jax.files import copy_file, write_text
from ditfuse_jax.model import Condition
from ditfuse_jax.model.heads import is_of_this_package
from ditfuse_jax.model.network import Network
from ditfuse_jax.optional import import_optional
from ditfuse_jax.prompts import TextSlots, encode_prompt, load_tokenizer, prompt_tags
from ditfuse_jax.prompts.tokenizer import TOKENIZER_FILES, tokenizer_folder
from ditfuse_jax.sample.chroma import MORE_CHROMA, OVERLAY
from ditfuse_jax.sample.stack_fuser import padding_multiple
from ditfuse_jax.sample.standard_prompts import CONTROL_TASKS, STANDARD_TASKS, standard_prompt
from ditfuse_jax.sample.structure import merge
from ditfuse_jax.sample.trained import TrainedModel, load_checkpoint
from ditfuse_jax.weights import Checkpoint
from ditfuse_jax.weights.license import LICENSE, find_license

MODEL, SETTINGS, PROMPTS, EXAMPLE = "model.onnx", "settings.json", "prompts.json", "example.py"
INPUTS, OUTPUT = ("tokens", "valid", "sources", "noisy", "time"), "clean"
_SOURCES = 2
_LEFT_OUT = {"refine": "what is done to fusions of focuses and exposures after sampling"}
_LARGEST = 2**31 - 2**24  # bytes of weights in one file of protobuf, beside the graph


def write_onnx(checkpoint: Checkpoint, output: Path, *, quiet: bool = False) -> None:
    """Writes the folder.

    The graph maps one tile of two sources to its prediction: token ids int32 (1, T), valid bool
    (1, T), sources (1, 2, tile, tile, 3) and noisy (1, tile, tile, 3) float32 of -1 to 1, time
    float32 (1,) to the clean image (1, tile, tile, 3).

    Raises:
      UserError: the graph cannot hold this model, or the folder exists or cannot be written;
        nothing is left then.
    """
    _check(checkpoint)
    onnx = import_optional("onnx", "onnx")
    # They warn of values without a type, and of plugins for libraries that are not used here.
    for name in ("onnx_ir", "jax2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        to_onnx = importlib.import_module("jax2onnx").to_onnx
    except ImportError as error:
        raise UserError(
            f"{error}: install the extra onnx, and `pip install --no-deps jax2onnx`"
        ) from error
    # Few processors' runtimes compute in bfloat16.
    model = dataclasses.replace(checkpoint.model, dtype="float32")
    trained = load_checkpoint(dataclasses.replace(checkpoint, model=model))
    with new_folder(output) as folder:
        function, types = tile_function(trained)
        graph = to_onnx(without_empty_arrays(function, types), types, return_mode="proto")
        _rename(graph.graph)
        onnx.checker.check_model(graph)
        onnx.save(graph, str(folder / MODEL))
        write_text(folder / SETTINGS, json.dumps(_settings(trained), indent=1))
        write_text(folder / PROMPTS, json.dumps(_prompts(trained)))
        copy_file(Path(__file__).with_name("onnx_example.py"), folder / EXAMPLE)
        source = tokenizer_folder(trained.tokenizer)
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                copy_file(source / name, folder / name)
        if terms := find_license(checkpoint):
            copy_file(terms, folder / LICENSE)
    for name in _left_out(trained) if not quiet else ():
        print(
            f"left out: {name}, {_LEFT_OUT[name]}; see docs/how_to/onnx.md",
            file=sys.stderr,
        )


def tile_function(trained: TrainedModel) -> tuple[Any, list[jax.ShapeDtypeStruct]]:
    """Returns the function of one tile, with the weights inside, and the types of its inputs."""
    structure = trained.structure
    assert isinstance(structure, Network)
    # Layers one after the other: a loop over stacked weights is slower and cannot be quantised.
    model = dataclasses.replace(structure.model, unroll=True, attention="xla")
    module = merge(dataclasses.replace(structure, model=model), trained.parameters)

    def clean(tokens: Any, valid: Any, sources: Any, noisy: Any, time: Any) -> jax.Array:
        condition = Condition(tokens, valid, sources, jnp.ones(sources.shape[:2], bool))
        return module.denoise(module.encode(condition), condition, noisy, time)

    side = trained.sampling.tile
    length = sum(TextSlots(*trained.sampling.text_slots).capacities(_SOURCES))
    shapes: list[tuple[tuple[int, ...], Any]] = [
        ((1, length), jnp.int32),
        ((1, length), jnp.bool_),
        ((1, _SOURCES, side, side, 3), jnp.float32),
        ((1, side, side, 3), jnp.float32),
        ((1,), jnp.float32),
    ]
    return clean, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]


def _check(checkpoint: Checkpoint) -> None:
    model, sampling = checkpoint.model, checkpoint.sampling
    obstacles = [
        (
            checkpoint.lora is not None,
            "adapters: merge them first with `ditfuse convert WEIGHTS --lora ADAPTER -o MERGED`",
        ),
        (
            bool(checkpoint.autoencoder) or model.latent_downsampling != 1,
            "an autoencoder: convert a model on pixels",
        ),
        (
            model.prediction != "clean",
            f"the prediction {model.prediction!r}: convert a model with model.prediction='clean'",
        ),
        (
            not is_of_this_package(model.head),
            f"the head {model.head!r} of an extension: convert a model with linear, blend or bands",
        ),
        (
            len(sampling.guidance.branches) > 1,
            "guidance with several branches: train or convert it with sample.guidance_scale=1 and "
            "sample.image_guidance_scale=1",
        ),
        (
            sampling.solver != "euler",
            f"the solver {sampling.solver!r}: use sample.solver='euler'",
        ),
        (not sampling.tile, "no tiles: use sample.tile with the side of its training crops"),
        (
            sampling.max_side > 0,
            f"the limit sample.max_side={sampling.max_side}: images are computed in full; use 0",
        ),
        (
            _bytes(checkpoint) > _LARGEST,
            f"{_bytes(checkpoint) / 2**30:.1f} GiB of float32 weights: one file of ONNX holds 2",
        ),
    ]
    for applies, obstacle in obstacles:
        if applies:
            raise UserError(f"{checkpoint.path} cannot become ONNX because it has {obstacle}")


def _bytes(checkpoint: Checkpoint) -> int:
    """Returns the size of the weights in float32."""
    return 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(checkpoint.shapes()))


def _rename(graph: Any) -> None:
    names = dict(zip((x.name for x in graph.input), INPUTS, strict=True))
    names[graph.output[0].name] = OUTPUT
    for node in graph.node:
        for places in (node.input, node.output):
            places[:] = [names.get(name, name) for name in places]
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]


def _settings(trained: TrainedModel) -> dict[str, Any]:
    sampling, patch = trained.sampling, trained.model.patch_size
    times = sampling.time_grid((sampling.tile // patch) ** 2)
    return {
        "model": trained.name,
        "tile": sampling.tile,
        "patch": patch,
        "multiple": padding_multiple(trained.model),
        "times": [float(time) for time in times],
        "global_steps": sampling.global_steps,
        "limit_chroma": sampling.limit_chroma,
        "left_out": _left_out(trained),
    }


def _left_out(trained: TrainedModel) -> list[str]:
    """Returns the settings that neither the graph nor the example follows."""
    return [name for name in _LEFT_OUT if getattr(trained.sampling, name)]


def _prompts(trained: TrainedModel) -> dict[str, Any]:
    """Task -> token ids, which of them are valid, and how far the chroma may go."""
    tokenizer, slots = load_tokenizer(trained.tokenizer), TextSlots(*trained.sampling.text_slots)
    prompts = {}
    for task in (*STANDARD_TASKS, *CONTROL_TASKS):
        prompt = standard_prompt(task, _SOURCES)
        encoded = encode_prompt(tokenizer, prompt, _SOURCES, slots)
        kind, tags = prompt_tags(prompt)
        prompts[task] = {
            "prompt": prompt,
            "tokens": np.asarray(encoded.tokens).tolist(),
            "valid": np.asarray(encoded.valid).tolist(),
            "chroma": {
                "limited": not OVERLAY.intersection(tags),
                "only_grey": bool(MORE_CHROMA.intersection(tags)),
                "relative": kind == "CONTROL",
            },
        }
    return prompts
