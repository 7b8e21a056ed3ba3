"""What is measured, most important first.

A measurement is a function of a `Scale` that returns values by name.  It runs in a worker process,
so its module may import JAX or PyTorch; this one imports neither.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

# Kernels that are compared and timed; `auto` is one of them.
KERNELS = ("cudnn_split", "cudnn", "xla", "splash")


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of the measurements.

    Attributes:
      heads: query heads of the attention.
      head_dim: their dimension.
      sides: sides in pixels of the images whose sequences are timed; kernels are compared at the
        first one.
      pixels_per_token: side of a token in pixels.
      text_slots: tokens of text (first, middle, last).
      dtype: of the attention and the models.
      repeats: timed repetitions.
      preset: model of the training and sampling measurements.
      train_side: side in pixels of the training images.
      batch: examples per training step.
      steps: of the sampler.
      bundled_side: side in pixels of the images that the bundled model fuses.
      policies: rematerialisation policies of the training steps beside `auto`.
      overrides: of the preset's configuration.
    """

    heads: int = 32
    head_dim: int = 96
    sides: tuple[int, ...] = (512, 1024)
    pixels_per_token: int = 16
    text_slots: tuple[int, int, int] = (64, 16, 128)
    dtype: str = "bfloat16"
    repeats: int = 10
    preset: str = "omnigen"
    train_side: int = 512
    batch: int = 4
    steps: int = 50
    bundled_side: int = 256
    policies: tuple[str, ...] = ("none", "projections", "attention", "full")
    overrides: tuple[str, ...] = ()


FULL = Scale()
SMALL = Scale(
    heads=2,
    head_dim=16,
    sides=(32, 64),
    text_slots=(4, 2, 4),
    dtype="float32",
    repeats=2,
    preset="nano",
    train_side=32,
    batch=2,
    steps=2,
    bundled_side=32,
    policies=("full",),
    overrides=("--config.model.num_layers=1",),
)


@dataclasses.dataclass(frozen=True)
class Task:
    """One measurement.

    Attributes:
      name: of the measurement.
      module: of this package, which holds the function.
      function: takes a `Scale` and the arguments, returns values by name.
      arguments: further arguments.
      estimate: seconds that it takes on a GPU at full scale, compilation included; it is skipped if
        less time is left.
      worker: `jax` or `torch`: measurements of different kinds run in different processes, because
        each library reserves the device's memory.
    """

    name: str
    module: str
    function: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    estimate: float = 20.0
    worker: str = "jax"

    def run(self, scale: Scale) -> dict[str, Any]:
        """Runs the measurement in this process."""
        module = importlib.import_module(f"ditfuse_jax.bench.device.{self.module}")
        function: Callable[..., dict[str, Any]] = getattr(module, self.function)
        return function(scale, **self.arguments)


def make_plan(scale: Scale) -> list[Task]:
    """Returns all measurements, most important first."""
    first, *larger = scale.sides

    def check(name: str) -> Task:
        arguments = {"implementation": name, "side": first}
        return Task(f"check {name}", "attention", "check", arguments)

    def timing(name: str, side: int) -> Task:
        arguments = {"implementation": name, "side": side}
        return Task(f"attention {name}, {side} px", "attention", "time_kernel", arguments)

    def training(policy: str, lora: bool) -> Task:
        what = "LoRA" if lora else "full"
        arguments = {"remat": policy, "lora": lora}
        name = f"train {what}, remat={policy}, {scale.train_side} px"
        return Task(name, "training", "train", arguments, estimate=60.0)

    def torch(side: int) -> Task:
        name = f"attention PyTorch SDPA, {side} px"
        return Task(name, "torch_attention", "time_sdpa", {"side": side}, 15.0, "torch")

    def sampling(side: int) -> Task:
        return Task(f"sample, {side} px", "sampling", "sample", {"side": side}, estimate=60.0)

    return [
        *(check(name) for name in KERNELS),
        *(timing(name, first) for name in (*KERNELS, "auto")),
        training("auto", lora=True),
        training("auto", lora=False),
        Task("bundled model", "sampling", "bundled", estimate=30.0),
        sampling(first),
        *(timing(name, side) for side in larger for name in KERNELS),
        *(torch(side) for side in scale.sides),
        *(training(name, lora) for name in scale.policies for lora in (True, False)),
        *(sampling(side) for side in larger),
    ]
