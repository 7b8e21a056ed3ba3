"""The Python call: images and a sentence in, a fused image out."""

import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.images import LoadedImage, RangeOption
from ditfuse_jax.paths import model_path
from ditfuse_jax.sample.fused import Fused
from ditfuse_jax.sample.prepared import (
    Adjustments,
    Options,
    Prepared,
    Preparer,
    load_stack,
    run,
    split_arguments,
)
from ditfuse_jax.sample.refinement import check_refine
from ditfuse_jax.sample.sequence_fuser import REUSE, SequenceSettings
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.static_smoothing import SHARE
from ditfuse_jax.sample.stream import stream
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_trained
from ditfuse_jax.weights import SHIPPED

_KEPT_SETTINGS = 16  # choices of sampling settings whose samplers are kept


class Fuser:
    """A trained model that is called with images.

        fuser = Fuser.load("small")
        fused = fuser("vis.png", "ir.png", "a little brighter")
        fused.save("fused.png")

    An image is a path, an image of Pillow, or an array (NumPy, JAX): uint8, uint16, or float from 0
    to 1, grey (H, W) or RGB (H, W, 3); see `images.load_image`.  The pixels are those that `ditfuse
    fuse` gives for the same files.

    The model is loaded once, and compiled once for each image size; images in tiles share one
    program.

    Attributes:
      trained: the model.
      sampling: the settings of calls that do not change them.
    """

    def __init__(self, trained: TrainedModel, sampling: SamplingConfig | None = None):
        """Wraps a model that is in memory; see `load`.

        Raises:
          UserError: the settings or the tokenizer do not fit the model.
        """
        self.trained = trained
        self.sampling = sampling or trained.sampling
        self._samplers: dict[SamplingConfig, StackFuser] = {}
        self._lock = threading.Lock()
        self.sampler()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = SHIPPED,
        *,
        adapters: Sequence[str | os.PathLike[str] | WeightedAdapter] = (),
        base: str | os.PathLike[str] | None = None,
        devices: Sequence[Any] | None = None,
        quantize: str | None = None,
        **sampling: Any,
    ) -> "Fuser":
        """Loads a model.

        Args:
          model: `small`, the bundled one; a run folder, `RUN@best` or a step; a folder in OmniGen's
            or diffusers' layout; or `hf://OWNER/NAME[@REVISION]`.
          adapters: adapters to merge: `FOLDER` or `FOLDER=WEIGHT`.
          base: the weights under a run's adapters, if they were moved.
          quantize: `int8` or `nf4` to keep the kernels of the layers in 8 or 4 bits.
          devices: share every batch, such as `jax.local_devices()`; by default the first one only.
          sampling: fields of `SamplingConfig` that differ from the model's own, such as `steps=8`.

        Raises:
          UserError: there is no model, it does not fit its parts, or a setting is bad.
        """
        merged = [
            adapter if isinstance(adapter, WeightedAdapter) else WeightedAdapter.parse(str(adapter))
            for adapter in adapters
        ]
        below = None if base is None else model_path(base)
        trained = load_trained(model_path(model), merged, below, devices, quantize)
        return cls(trained, trained.sampling.override(sampling))

    def __call__(
        self,
        *images: Any,
        prompt: str | None = None,
        task: str = "fuse",
        adjust: Adjustments = (),
        resize: bool = False,
        value_range: RangeOption = "auto",
        align: str | Path | None = None,
        depth: int | None = None,
        region: Any = None,
        feather: float | None = None,
        **sampling: Any,
    ) -> Fused:
        """Fuses two to four images of one scene.

        Args:
          images: the images; a text at the end that is no name of an image file is the `prompt`.
          prompt: a sentence, or a full prompt with placeholders; None means that of the task.
          task: `fuse`, `ivif`, `mff`, `mef`, `light+`, `segment:road`, ...; see `standard_prompt`.
          adjust: `{"brightness": 1, "road:contrast": -2, "infrared": 1}`, or what `--adjust` of the
            command takes, `["brightness=+1"]`.
          resize: scale the images to the size of the first.
          value_range: which samples of uint16 images become black and white; see
            `images.SourceRanges`.
          align: bring the images onto the first one's pixels by a warp of this model ("auto" is the
            simplest that explains them) or of a calibration file.
          depth: bits of the fused image, 8 or 16; by default 16 if a source has more than 8.
          region: where the request applies: a mask of the first image's size, white there (a file,
            an array uint8 or bool (H, W), or an image of Pillow); or a class that the model marks,
            such as "road".
          feather: width of the region's border in pixels; by default 2 % of the shorter side.
          sampling: fields of `SamplingConfig` for this call, such as `steps=8`.

        Raises:
          UserError: images of unequal size or unknown type, a bad prompt, adjustment or setting.
        """
        images, prompt = split_arguments(images, prompt)
        options = Options(task, adjust, resize, value_range, align, depth, region, feather)
        return run(self._prepared([load_stack(images)], [prompt], options, sampling))[0]

    def batch(
        self,
        stacks: Iterable[Sequence[Any]],
        prompt: str | Sequence[str | None] | None = None,
        **options: Any,
    ) -> list[Fused]:
        """Fuses many stacks; those of one size together, `batch_size` at a time.

        Args:
          stacks: the images of each scene.  All images of one place in the stacks share the range
            of their samples, as the files of a folder do.
          prompt: for all, or one for each stack.
          options: further arguments of a call, such as `task="mff"` or `batch_size=4`.

        Raises:
          UserError: see `__call__`.
        """
        chosen, sampling = Options.split(options)
        loaded = [load_stack(images, f"stack {n}, ") for n, images in enumerate(stacks, start=1)]
        prompts = [prompt] * len(loaded) if prompt is None or isinstance(prompt, str) else prompt
        if len(prompts) != len(loaded):
            raise UserError(f"{len(prompts)} prompts for {len(loaded)} stacks: give one for each")
        return run(self._prepared(loaded, prompts, chosen, sampling))

    def stream(
        self,
        frames: Iterable[Sequence[Any]],
        prompt: str | None = None,
        *,
        reuse: int = REUSE,
        smoothing: float = SHARE,
        **options: Any,
    ) -> Iterator[Fused]:
        """Fuses the frames of a sequence as they come, in their order, as `ditfuse fuse` does.

        The range of samples with more than 8 bits and the warp of `align` are chosen by the first
        frame and kept, so that a video neither flickers nor trembles; which source a request means,
        by the first frame that shows it.  Frames are not shared between devices.  At most
        `batch_size` frames wait in memory.

        Args:
          frames: the images of each frame, of equally many sources.
          prompt: for all frames.
          reuse, smoothing: how neighbouring frames are used, see `SequenceSettings`; with 1 and 0
            every frame is fused for itself.
          options: further arguments of a call.

        Raises:
          UserError: see `__call__`.
        """
        settings = SequenceSettings(reuse, smoothing)
        chosen, sampling = Options.split(options)
        return stream(frames, prompt, chosen, self.sampler(**sampling), settings, sampling)

    def prepare(self, images: Sequence[Any], prompt: str | None = None, **options: Any) -> Prepared:
        """Reads and checks what a call gets, without computing anything; see `run`."""
        chosen, sampling = Options.split(options)
        return self._prepared([load_stack(images)], [prompt], chosen, sampling)[0]

    def run(self, prepared: Sequence[Prepared]) -> list[Fused]:
        """Fuses what `prepare` returned with equal settings, in one batch for each image size.

        Batches have 1, 2, 4, 8, ... rows, whatever `batch_size` says, so that few programs serve
        any number of stacks.

        Raises:
          UserError: the settings differ.
        """
        if not prepared:
            return []
        settings = {item.sampler.sampling for item in prepared}
        if len(settings) > 1:
            raise UserError("the stacks were prepared with other settings: run them in turn")
        rows = 1 << (len(prepared) - 1).bit_length()
        # The settings were checked when the stacks were prepared; only the rows are others.
        config = dataclasses.replace(prepared[0].sampler.sampling, batch_size=rows)
        return run(prepared, self._kept_sampler(config))

    def _prepared(
        self,
        stacks: Sequence[tuple[LoadedImage, ...]],
        prompts: Sequence[str | None],
        options: Options,
        sampling: Mapping[str, Any],
    ) -> list[Prepared]:
        """Reads and checks stacks whose images of one place share the range of their samples."""
        sampler = self.sampler(**sampling)
        prepare = Preparer(sampler, options, stacks)
        prepared = [prepare(*pair) for pair in zip(stacks, prompts, strict=True)]
        if prepared:
            instructions = [one.instruction for one in prepared]
            check_refine(sampling, sampler.sampling, instructions, options.region is not None)
        return prepared

    def sampler(self, **sampling: Any) -> StackFuser:
        """Returns the model with sampling settings that differ from `self.sampling`.

        Raises:
          UserError: an unknown or bad setting.
        """
        return self._kept_sampler(self.sampling.override(sampling))

    def _kept_sampler(self, config: SamplingConfig) -> StackFuser:
        with self._lock:
            found = self._samplers.pop(config, None) or StackFuser(
                self.trained, config, self.trained.partitioner
            )
            self._samplers[config] = found  # the last one is the one used last
            while len(self._samplers) > _KEPT_SETTINGS:
                del self._samplers[next(iter(self._samplers))]
        return found
