"""Metrics of the training steps, recorded while the next step runs."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from ditfuse_jax.model.flops import training_flops
from ditfuse_jax.model.lora_flops import lora_training_flops
from ditfuse_jax.parallel.accelerators import peak_flops
from ditfuse_jax.parallel.processes import is_main_process
from ditfuse_jax.pipeline.bad_records import RecentBadRecords
from ditfuse_jax.train.console import Console
from ditfuse_jax.train.goodput import Goodput
from ditfuse_jax.train.settings import Recipe
from ditfuse_jax.train.writers import Writer
from ditfuse_jax.xla.memory import GIB, device_memory


class Recorder:
    """Fetches each step's metrics when they are ready and passes them to the writer and console."""

    def __init__(
        self,
        recipe: Recipe,
        rate: optax.Schedule,
        console: Console,
        writer: Writer,
        goodput: Goodput,
    ):
        # Without jit, each operation of the schedule would be a program of its own.
        self._recipe, self._rate = recipe, jax.jit(rate)
        self._console, self._writer, self._goodput = console, writer, goodput
        self._pending: tuple[int, Any] | None = None
        self._skipped: float | None = None
        self._since: tuple[int, float] | None = None
        self._flops = 0.0
        self._bad_records = 0
        log = recipe.data.log if is_main_process() else None
        self._bad_records_log = RecentBadRecords(log.parent) if log else None

    def start(self, step: int) -> None:
        """Starts to measure speed, at the first call."""
        if self._since is None:
            self._since = (step, self._goodput.total)

    def push(self, step: int, metrics: Any, flops: float) -> None:
        """Takes a step's metrics, still being computed, and records those of the previous step.

        Args:
          step: number of updates.
          metrics: name -> scalar array.
          flops: of the model, for the step's batch.
        """
        self.flush()
        self._pending = (step, metrics)
        self._flops += flops

    def flush(self) -> None:
        """Waits for the pending metrics and records them."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        config = self._recipe.train
        due = step % config.log_every == 0 or step == config.steps
        with self._goodput.measure("step"):
            scalars = {name: value.item() for name, value in jax.device_get(metrics).items()}
            if due:  # computed by the devices, after the step that runs
                scalars["learning_rate"] = jax.device_get(self._rate(step - 1)).item()
        if self._skipped is not None and scalars["skipped"] > self._skipped:
            norm = scalars["grad_norm"]
            self._console.print(f"step {step}: update skipped, gradient norm {norm:.3g}")
        self._skipped = scalars["skipped"]
        self._console.step(step, scalars)
        if due:
            self.write(step, scalars | self._rates(step) | self._data(step))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records scalars of any kind."""
        if scalars:
            self._writer.write(step, scalars)

    def _rates(self, step: int) -> dict[str, float]:
        """Returns the speed since the previous call, and the memory that the device reports."""
        assert self._since is not None
        now = self._goodput.total
        steps, seconds = step - self._since[0], max(now - self._since[1], 1e-9)
        self._since = (step, now)
        flops, self._flops = self._flops, 0.0
        shares = self._goodput.shares()
        rates = {
            "images_per_second": steps * self._recipe.data.batch_size / seconds,
            "tflops_per_device": flops / seconds / jax.device_count() / 1e12,
            "goodput": shares["step"],
            "data_wait": shares["data"],
        }
        peak = peak_flops(jax.devices()[0].device_kind)
        if peak:
            rates["mfu"] = rates["tflops_per_device"] * 1e12 / peak
        memory = device_memory()
        return rates | {f"memory_{name}_gib": size / GIB for name, size in memory.items()}

    def _data(self, step: int) -> dict[str, float]:
        """Returns the number of bad records so far and reports new ones on the console."""
        found = self._bad_records_log.read() if self._bad_records_log else []
        if len(found) > self._bad_records:
            last = found[-1]
            self._console.print(
                f"step {step}: {len(found)} bad records skipped so far, see "
                f"{self._recipe.data.log}; last {last['record']} of {last['source']}: "
                f"{last['reason']}"
            )
            self._bad_records = len(found)
        return {"bad_records": float(len(found))} if found else {}


def example_flops(recipe: Recipe, batch: Mapping[str, jax.Array]) -> float:
    """Returns the model FLOPs of training on one example like those of the batch.

    The autoencoder of a model on latents is not counted.
    """
    valid = batch["token_valid"]
    height, width = batch["target"].shape[1:3]
    sizes = {
        "num_text": float(valid.sum()) / valid.shape[0],
        "num_images": batch["images"].shape[1],
        "patches": height * width // recipe.model.pixels_per_token**2,
        "draws": recipe.step.draws,
    }
    return step_flops(recipe, **sizes)


def step_flops(recipe: Recipe, **sizes: Any) -> float:
    """Returns the model FLOPs of a training step for one example, its teacher's included.

    Args:
      recipe: of the run.
      **sizes: see `training_flops`.
    """
    model, teacher = recipe.model, recipe.step.teacher
    flops = (
        lora_training_flops(model, recipe.lora, **sizes)
        if recipe.lora
        else training_flops(model, **sizes)
    )
    return flops + (teacher.flops(model, **sizes) if teacher else 0.0)
