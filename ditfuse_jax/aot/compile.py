"""A case to compile: what, on which devices, and its programs' reports."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.aot.cached_compile import cache_folder, compile_lowered
from ditfuse_jax.aot.memory import checkpoint_bytes, device_bytes
from ditfuse_jax.aot.programs import NUM_IMAGES, Program, sampling_programs, train_program
from ditfuse_jax.aot.report import Report, examine
from ditfuse_jax.aot.topology import Topology
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.attention import AttentionMask
from ditfuse_jax.model.flops import condition_flops, draw_flops, training_flops
from ditfuse_jax.model.layout import Layout
from ditfuse_jax.model.lora_flops import lora_training_flops
from ditfuse_jax.parallel import Sharder, make_mesh
from ditfuse_jax.parallel.accelerators import TPUS, Accelerator
from ditfuse_jax.prompts import TextSlots, encode_prompt, load_tokenizer
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.train.recipe import Config, apply_overrides, default_config
from ditfuse_jax.train.settings import Recipe, resolve

PROGRAMS = ("train", "sample")


@dataclasses.dataclass(frozen=True)
class CompileConfig:
    """What is compiled.

    Attributes:
      preset: of the model.
      program: a name in `PROGRAMS`.
      image_size: of the square images, in pixels.
      batch_size: examples over all devices; 0 for four per device to train on, one to sample.
      lora: train adapters as `omnigen_lora` has them instead of all weights.
      overrides: words like `--config.model.remat=full`.
    """

    preset: str
    program: str = "train"
    image_size: int = 512
    batch_size: int = 0
    lora: bool = False
    overrides: tuple[str, ...] = ()

    def recipe(self, devices: int, slices: int) -> Recipe:
        """The recipe on these devices; a slice holds one copy of the parameters.

        For training, parameters and batch are spread over it; for sampling, heads are: the batch
        may then be one.

        Raises:
          UserError: an unknown preset, or overrides that do not fit.
        """
        if self.program not in PROGRAMS:
            raise UserError(f"{self.program!r} is unknown; choose from {', '.join(PROGRAMS)}")
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
            config.train.ema_decay = 0.0
        config.lock()
        return resolve(apply_overrides(config, self.overrides))


def compile_programs(
    case: CompileConfig, topology: Topology, *, low_effort: bool = False, folder: Path | None = None
) -> list[Report]:
    """Compiles what a case has, or recalls it.

    Args:
      case: what.
      topology: for which devices.
      low_effort: see `compile_lowered`.
      folder: of results; by default `cache_folder()`.

    Raises:
      UserError: the topology, the recipe or its mesh does not work, or there is no compiler.
    """
    chip, devices = TPUS[topology.family], topology.devices()
    return compile_on(case, devices, chip, str(topology), low_effort=low_effort, folder=folder)


def compile_on(
    case: CompileConfig,
    devices: Sequence[Any],
    chip: Accelerator,
    target: str,
    *,
    low_effort: bool = False,
    folder: Path | None = None,
) -> list[Report]:
    """The same for given devices."""
    slice_of = [getattr(device, "slice_index", 0) or 0 for device in devices]
    recipe = case.recipe(len(devices), max(slice_of) + 1)
    sharder = Sharder(make_mesh(recipe.mesh, devices))
    if case.program == "train":
        programs = [train_program(recipe, sharder)]
    else:
        programs = sampling_programs(recipe, sharder)
    # Programs number devices by their place in the mesh.
    placed = [getattr(device, "slice_index", 0) or 0 for device in sharder.mesh.devices.flat]
    facts = {
        "preset": recipe.model.preset,
        "topology": target,
        "devices": len(devices),
        "mesh": {axis: size for axis, size in sharder.mesh.shape.items() if size > 1},
        "batch_size": recipe.data.batch_size,
        "image_size": recipe.data.crop[0],
        "trains": "adapters" if recipe.lora else "all weights",
        "remat": recipe.model.remat,
        "attention": recipe.model.attention,
        "effort": "least" if low_effort else "usual",
    }
    if case.program == "sample":
        del facts["trains"], facts["remat"]
        facts["steps"] = recipe.sampling.steps
    reports = []
    for program in programs:
        done = compile_lowered(
            program.lower(), target, folder or cache_folder(), low_effort=low_effort
        )
        consumers = {name: device_bytes(tree) for name, tree in program.arguments.items()}
        if program.name == "train":
            consumers |= _kept_by_a_step(recipe, sharder, program)
        flops = model_flops(recipe, program.name) / len(devices)
        masks = attention_masks(recipe, program.name)
        reports.append(examine(program.name, facts, done, consumers, flops, chip, placed, masks))
    return reports


def model_flops(recipe: Recipe, program: str) -> float:
    """Model FLOPs of one run over the whole batch; 0 for the autoencoder, which is not counted.

    The text is the standard fusion prompt; padding in the text slots is no work of the model's.
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
        if recipe.lora:
            return size * lora_training_flops(model, recipe.lora, **sizes)
        return size * training_flops(model, **sizes)
    if program == "sample":
        seen = text + NUM_IMAGES * patches
        steps = recipe.sampling.steps * draw_flops(model, seen, patches)
        branches = len(recipe.sampling.guidance.branches)
        return size * branches * (condition_flops(model, text, NUM_IMAGES, patches) + steps)
    return 0.0


def layout(recipe: Recipe, text_slots: tuple[int, int, int]) -> Layout:
    """The sequence of one example."""
    first, middle, last = text_slots
    height, width = (side // recipe.model.pixels_per_token for side in recipe.data.crop)
    return Layout((first, *(middle,) * (NUM_IMAGES - 1), last), (height, width), recipe.step.draws)


def attention_masks(recipe: Recipe, program: str) -> tuple[AttentionMask, ...]:
    """What attends to what in a program."""
    if program == "train":
        return (layout(recipe, recipe.model.text_slots).full_mask,)
    sequence = layout(recipe, recipe.sampling.text_slots)
    return (sequence.condition_mask, sequence.draw_mask)


def _kept_by_a_step(recipe: Recipe, sharder: Sharder, program: Program) -> dict[str, int]:
    """Gradients, and what the layers keep for the backward pass."""
    length = layout(recipe, recipe.model.text_slots).length
    batch = recipe.data.batch_size // recipe.step.accumulation
    return {
        "gradients": device_bytes(program.arguments["parameters"]),
        "layers' checkpoints": checkpoint_bytes(recipe.model, sharder, batch, length),
    }
