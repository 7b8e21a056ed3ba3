"""Compiles the programs of a preset for a topology and reports on them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.aot.cached_compile import cache_folder, compile_lowered
from ditfuse_jax.aot.programs import NUM_IMAGES, Program, sampling_programs, train_program
from ditfuse_jax.aot.report import Report, make_report
from ditfuse_jax.aot.topology import Topology
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.attention import AttentionMask
from ditfuse_jax.model.flops import condition_flops, draw_flops
from ditfuse_jax.model.layout import Layout
from ditfuse_jax.model.quantization import QUANTIZATIONS
from ditfuse_jax.model.remat import AUTO
from ditfuse_jax.parallel import Partitioner, make_mesh
from ditfuse_jax.parallel.accelerators import GPUS, TPUS, Accelerator
from ditfuse_jax.parallel.compiler_options import compiler_options
from ditfuse_jax.prompts import TextSlots, encode_prompt, load_tokenizer
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.train.choose_remat import CANDIDATES, RESERVE
from ditfuse_jax.train.for_devices import least_saved, with_attention
from ditfuse_jax.train.memory import checkpoint_bytes
from ditfuse_jax.train.recipe import Config, apply_overrides, default_config, load_recipe
from ditfuse_jax.train.recorder import step_flops
from ditfuse_jax.train.settings import Recipe, resolve
from ditfuse_jax.xla.memory import device_bytes

PROGRAMS = ("train", "sample")

# Takes the place of GPUs.
STAND_IN = Topology("v5p", (1, 1, 1))


@dataclasses.dataclass(frozen=True)
class CompileConfig:
    """What to compile.

    Attributes:
      preset: name of the model preset.
      program: a name in `PROGRAMS`.
      image_size: side of the square images in pixels.
      batch_size: examples over all devices; 0 for that of `config`, or without one for four per
        device in training, one per slice in sampling.
      lora: train adapters as in the recipe `omnigen_lora` instead of all weights.
      config: a recipe, whose model, data, mesh and teacher count instead of the above but
        `program` and `batch_size`; empty for none.
      quantize: how the kernels are kept in sampling, or under the adapters in training; see
        `Network`.
      overrides: configuration overrides like `--config.model.remat=full`.
    """

    preset: str
    program: str = "train"
    image_size: int = 512
    batch_size: int = 0
    lora: bool = False
    config: str = ""
    overrides: tuple[str, ...] = ()
    quantize: str | None = None

    def recipe(self, devices: int, slices: int) -> Recipe:
        """Returns the recipe for a number of devices; each slice holds one copy of the parameters.

        Within a slice, training shards parameters and batch; sampling shards attention heads, so
        the batch may be one.

        Raises:
          UserError: preset, program or an override is invalid.
        """
        if self.program not in PROGRAMS:
            raise UserError(
                f"program {self.program!r} is unknown; choose from {', '.join(PROGRAMS)}"
            )
        if self.config:
            if self.quantize is not None and self.program == "train":
                raise UserError("--quantize has no effect on --config: set lora.quantize there")
            return self._of_recipe(slices)
        if self.quantize is not None:
            QUANTIZATIONS.find(self.quantize)
            if self.program == "train" and not self.lora:
                raise UserError("quantised weights do not train: give --lora, too")
        config: Config = default_config(self.preset)
        config.data.crop = (self.image_size, self.image_size)
        config.data.batch_size = self.batch_size or (
            4 * devices if self.program == "train" else slices
        )
        config.optimizer.schedule = "constant"
        config.mesh.data, config.mesh.dcn_data = 1, slices
        if self.program == "train":
            config.mesh.fsdp = -1
        else:
            config.mesh.tensor = -1
        if self.lora:
            config.lora.rank, config.lora.alpha = 8, 8.0
            config.lora.quantize = self.quantize or ""
            config.train.ema_decay = 0.0
        config.lock()
        return resolve(apply_overrides(config, self.overrides))

    def _of_recipe(self, slices: int) -> Recipe:
        config = load_recipe(self.config)
        with config.unlocked():
            config.mesh.dcn_data = slices
            if self.batch_size:
                config.data.batch_size = self.batch_size
        return resolve(apply_overrides(config, self.overrides))


def compile_programs(
    config: CompileConfig,
    topology: Topology,
    *,
    low_effort: bool = False,
    folder: Path | None = None,
) -> list[Report]:
    """Compiles programs for a topology, or reads the results from the cache.

    Args:
      config: what to compile.
      topology: the devices.
      low_effort: see `compile_lowered`.
      folder: cache folder; by default `cache_folder()`.

    Returns:
      One report per program: one for training; for sampling in latent space three.

    Raises:
      UserError: topology, recipe or mesh is invalid, or the TPU compiler is not installed.
    """
    accelerator, devices = TPUS[topology.family], topology.devices()
    return compile_on(
        config, devices, accelerator, str(topology), low_effort=low_effort, folder=folder
    )


def compile_for_card(
    config: CompileConfig, card: str, *, low_effort: bool = False, folder: Path | None = None
) -> list[Report]:
    """Compiles programs for one GPU by compiling them for a TPU of much memory in its place.

    XLA compiles for GPUs only where there is one.  The arguments are the same bytes; the
    temporaries are those of the TPU's compiler, which pads short dimensions.

    Args:
      config: what to compile; by default for one example at a time, in training as many as the
        recipe accumulates.
      card: a key of `GPUS`.
      low_effort, folder: see `compile_programs`.

    Raises:
      UserError: see `compile_programs`; or the card is unknown.
    """
    accelerator = GPUS.find(card)
    if not config.batch_size:
        examples = config.recipe(1, 1).step.accumulation if config.program == "train" else 1
        config = dataclasses.replace(config, batch_size=examples)
    target = f"{card}, compiled for {STAND_IN}"
    devices = STAND_IN.devices()
    return compile_on(config, devices, accelerator, target, low_effort=low_effort, folder=folder)


def compile_on(
    config: CompileConfig,
    devices: Sequence[Any],
    accelerator: Accelerator,
    target: str,
    *,
    low_effort: bool = False,
    folder: Path | None = None,
) -> list[Report]:
    """Compiles programs for given devices; see `compile_programs`.

    With `model.remat=auto`, training is compiled with one policy after the other until one fits.
    """
    slice_of = [getattr(device, "slice_index", 0) or 0 for device in devices]
    recipe = config.recipe(len(devices), max(slice_of) + 1)
    # A run that trains adapters over quantised kernels is sampled with them, too.
    quantize = config.quantize or recipe.network.quantize
    recipe, _ = with_attention(recipe, devices[0])
    partitioner = Partitioner(make_mesh(recipe.mesh, devices))
    settings: dict[str, Any] = {
        "low_effort": low_effort,
        "folder": folder or cache_folder(),
        "quantize": quantize,
    }
    if config.program == "sample":
        return [
            _compile(recipe, partitioner, program, accelerator, target, **settings)
            for program in sampling_programs(recipe, partitioner, quantize)
        ]
    if recipe.model.remat != AUTO:
        program = train_program(recipe, partitioner)
        return [_compile(recipe, partitioner, program, accelerator, target, **settings)]
    usable = (1 - RESERVE) * accelerator.hbm_bytes
    for name in CANDIDATES:
        model = dataclasses.replace(recipe.model, remat=name)
        recipe = dataclasses.replace(recipe, model=model)
        program = train_program(recipe, partitioner)
        saved = _saved_by_a_step(least_saved(recipe), partitioner, program)["layers' checkpoints"]
        least = device_bytes(program.arguments) + saved
        if least > usable and name != CANDIDATES[-1]:
            continue
        report = _compile(recipe, partitioner, program, accelerator, target, **settings)
        if report.fits and report.bytes["total"] <= usable:
            return [report]
    return [report]


def _compile(
    recipe: Recipe,
    partitioner: Partitioner,
    program: Program,
    accelerator: Accelerator,
    target: str,
    *,
    low_effort: bool,
    folder: Path,
    quantize: str | None,
) -> Report:
    """Compiles one program and reports on it."""
    devices = list(partitioner.mesh.devices.flat)  # programs number devices in this order
    facts = {
        "preset": recipe.model.preset,
        "topology": target,
        "devices": len(devices),
        "mesh": {axis: size for axis, size in partitioner.mesh.shape.items() if size > 1},
        "batch_size": recipe.data.batch_size,
        "image_size": recipe.data.crop[0],
        "trainable": "adapters" if recipe.lora else "all weights",
        "remat": recipe.model.remat,
        "attention": recipe.model.attention,
        "effort": "low" if low_effort else "default",
    }
    if quantize:
        facts["quantize"] = quantize
    options = {}
    consumers = {name: device_bytes(tree) for name, tree in program.arguments.items()}
    if program.name == "train":
        consumers |= _saved_by_a_step(recipe, partitioner, program)
        options = compiler_options(recipe.train.compiler_options, devices[0])
    else:
        del facts["trainable"], facts["remat"]
        facts |= recipe.sampling.to_dict() | {"batch_size": recipe.data.batch_size}
    compilation = compile_lowered(
        program.lower(), target, folder, low_effort=low_effort, options=options
    )
    return make_report(
        program.name,
        facts,
        compilation,
        consumers,
        model_flops(recipe, program.name) / len(devices),
        accelerator,
        [getattr(device, "slice_index", 0) or 0 for device in devices],
        attention_masks(recipe, program.name),
    )


def model_flops(recipe: Recipe, program: str) -> float:
    """Returns the model FLOPs of one run over the whole batch; 0 for the autoencoder's programs.

    The text is the standard fusion prompt; padding in the text slots is not counted.
    """
    model, size = recipe.model, recipe.data.batch_size
    height, width = recipe.data.crop
    patches = height * width // model.pixels_per_token**2
    slots = recipe.sampling.text_slots if program == "sample" else model.text_slots
    tokenizer = load_tokenizer(recipe.data.encoder.tokenizer)
    prompt = standard_prompt("fuse", NUM_IMAGES)
    text = int(encode_prompt(tokenizer, prompt, NUM_IMAGES, TextSlots(*slots)).valid.sum())
    sizes: dict[str, Any] = {"num_text": text, "num_images": NUM_IMAGES, "patches": patches}
    if program == "train":
        sizes["draws"] = recipe.step.draws
        return size * step_flops(recipe, **sizes)
    if program == "sample":
        condition = text + NUM_IMAGES * patches
        steps = recipe.sampling.num_evaluations * draw_flops(model, condition, patches)
        branches = len(recipe.sampling.guidance.branches)
        return size * branches * (condition_flops(model, text, NUM_IMAGES, patches) + steps)
    return 0.0


def layout(recipe: Recipe, text_slots: tuple[int, int, int]) -> Layout:
    """Returns the layout of one example's sequence."""
    first, middle, last = text_slots
    height, width = (side // recipe.model.pixels_per_token for side in recipe.data.crop)
    return Layout((first, *(middle,) * (NUM_IMAGES - 1), last), (height, width), recipe.step.draws)


def attention_masks(recipe: Recipe, program: str) -> tuple[AttentionMask, ...]:
    """Returns the attention masks of a program."""
    if program == "train":
        return (layout(recipe, recipe.model.text_slots).full_mask,)
    sequence = layout(recipe, recipe.sampling.text_slots)
    return (sequence.condition_mask, sequence.draw_mask)


def _saved_by_a_step(recipe: Recipe, partitioner: Partitioner, program: Program) -> dict[str, int]:
    """Returns the bytes of gradients and of the values that layers save for the backward pass."""
    length = layout(recipe, recipe.model.text_slots).length
    batch = recipe.data.batch_size // recipe.step.accumulation
    return {
        "gradients": device_bytes(program.arguments["parameters"]),
        "layers' checkpoints": checkpoint_bytes(recipe.model, partitioner, batch, length),
    }
