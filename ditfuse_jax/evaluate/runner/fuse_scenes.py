"""Fuses a set of scenes with a model into files, and reconstructs them with its autoencoder."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError, is_temporary
from ditfuse_jax.evaluate.baselines import CEILINGS
from ditfuse_jax.evaluate.runner.scenes import Scene, Scenes
from ditfuse_jax.files import make_folder
from ditfuse_jax.images import (
    check_same_size,
    from_uint8,
    to_uint8,
    write_image,
)
from ditfuse_jax.model.space import LatentSpace
from ditfuse_jax.prompts.requests import Request, describe
from ditfuse_jax.sample.fingerprints import (
    KEY,
    fuser_digest,
    has_fingerprint,
    parameters_digest,
    text_digest,
)
from ditfuse_jax.sample.instructions import make_instruction
from ditfuse_jax.sample.sampler import make_codec
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser, with_size_warning
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.sample.trained import TrainedModel


@dataclass(frozen=True)
class FusedScenes:
    """The result of `fuse_scenes`.

    Attributes:
      files: stem -> fused image.
      excluded: stem -> why the scene could not be read.
      seconds_per_image: of those that were newly fused; None if there were none.
    """

    files: dict[str, Path]
    excluded: dict[str, str]
    seconds_per_image: float | None = None


def fuse_scenes(
    fuser: StackFuser,
    task: str,
    scenes: Scenes,
    folder: Path,
    suffix: str = ".png",
    quiet: bool = False,
    adjustments: Mapping[str, Sequence[Request]] = MappingProxyType({}),
) -> FusedScenes:
    """Fuses scenes into `folder/STEM.png`, except those whose file this model has already made.

    Args:
      fuser: the model and its sampling settings.
      task: whose standard prompt is used.
      scenes: those in `excluded` are skipped.
      folder: created if it does not exist.
      suffix: ".jpg" saves with quality 95, for sets whose images are all JPEG.
      quiet: no progress bar.
      adjustments: stem -> what is asked for beside the standard prompt.

    Raises:
      UserError: a prompt or adjustment does not fit the model, or a file cannot be written.
    """
    make_folder(folder)
    model = fuser_digest(fuser)
    paths = {stem: folder / f"{stem}{suffix}" for stem in scenes.readers}
    files: dict[str, Path] = {}
    excluded: dict[str, str] = {}
    waiting: dict[int, tuple[str, dict[str, str]]] = {}
    bar = tqdm.tqdm(total=len(paths), unit="img", desc="fusing", disable=quiet)

    def jobs() -> Iterator[tuple[int, FusionInput]]:
        for number, (stem, path) in enumerate(paths.items()):
            if stem in scenes.excluded:
                bar.update()
                continue
            try:
                scene = scenes.readers[stem]()
                names = [f"{stem} image {i + 1}" for i in range(len(scene.sources))]
                check_same_size(scene.sources, names)
            except UserError as error:
                if is_temporary(error):
                    raise
                excluded[stem] = str(error)
                bar.update()
                continue
            asked = _fusion_input(scene.sources, task, adjustments.get(stem), fuser)
            fuser.check(asked.prompt, len(scene.sources))
            fingerprint = text_digest(f"{model} {asked.prompt}{asked.digest} {scene.digest}")
            if has_fingerprint(path, fingerprint):
                files[stem] = path
                bar.update()
                continue
            metadata = {
                "Software": "ditfuse_jax",
                "prompt": asked.prompt,
                "checkpoint": fuser.trained.name,
                KEY: fingerprint,
            }
            waiting[number] = (stem, metadata)
            if asked.applied:
                metadata["by image operations"] = describe(asked.applied)
            yield number, asked

    made = 0
    started = time.monotonic()  # a bar that is not shown measures no time
    with bar:
        for done in fuser.fuse_iter(with_size_warning(jobs(), fuser, "image 1", quiet)):
            for number, image in done.items():
                stem, metadata = waiting.pop(number)
                if size := fuser.computed_size(*image.shape[:2]):
                    metadata["computed at"] = f"{size[1]}x{size[0]}"
                write_image(paths[stem], image, metadata)
                files[stem] = paths[stem]
                made += 1
                bar.update()
    seconds = (time.monotonic() - started) / made if made else None
    ordered = {stem: files[stem] for stem in paths if stem in files}
    return FusedScenes(ordered, excluded, seconds)


def _fusion_input(
    sources: tuple[np.ndarray, ...],
    task: str,
    adjustments: Sequence[Request] | None,
    fuser: StackFuser,
) -> FusionInput:
    if not adjustments:
        return FusionInput(sources, standard_prompt(task, len(sources)))
    instruction = make_instruction(None, len(sources), fuser.sampling, task, adjustments)
    return instruction.fusion_input(sources)


def reconstruct_scenes(
    fuser: StackFuser, scenes: Scenes, folder: Path, quiet: bool = False
) -> tuple[str, dict[str, Path]]:
    """Reconstructs each scene's clean image, or else source A, with a model's autoencoder.

    A model on these latents cannot be expected to get closer to the image: this is its ceiling.

    Returns:
      The method's name, one of `CEILINGS`, and the files `folder/STEM.png`; files that this
      autoencoder has already made are kept.
    """
    make_folder(folder)
    code = parameters_digest(fuser.trained)
    files: dict[str, Path] = {}
    of_clean = True
    stems = [stem for stem in scenes.readers if stem not in scenes.excluded]
    for stem in tqdm.tqdm(stems, unit="img", desc="autoencoder", disable=quiet):
        try:
            scene = scenes.readers[stem]()
        except UserError:
            continue  # excluded when it was fused
        of_clean = of_clean and scene.clean is not None
        image = _ceiling_image(scene)
        path = folder / f"{stem}.png"
        fingerprint = text_digest(f"{code} {fuser.sampling.max_side} {scene.digest}")
        if not has_fingerprint(path, fingerprint):
            write_image(path, reconstruct(fuser, image), {KEY: fingerprint})
        files[stem] = path
    return CEILINGS[0 if of_clean else 1], files


def reconstruct(fuser: StackFuser, image: np.ndarray) -> np.ndarray:
    """Returns the autoencoder's reconstruction of uint8 `(H, W, 3)`: the decoded posterior mean."""
    height, width = image.shape[:2]
    canvas = fuser.canvas(height, width)
    pixels = from_uint8(canvas.apply(image))[None]
    space = fuser.trained.space
    encode, decode = make_codec(space)
    no_noise = np.zeros((1, *space.shape(*pixels.shape[1:3])), np.float32)
    latents = encode(fuser.trained.autoencoder, pixels, no_noise)
    return canvas.undo(to_uint8(np.asarray(decode(fuser.trained.autoencoder, latents))[0]))


def is_latent_model(trained: TrainedModel) -> bool:
    """Returns whether the model works on an autoencoder's latents."""
    return isinstance(trained.space, LatentSpace)


def _ceiling_image(scene: Scene) -> np.ndarray:
    return scene.sources[0] if scene.clean is None else scene.clean
