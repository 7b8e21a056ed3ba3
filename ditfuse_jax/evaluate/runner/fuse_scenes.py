"""Fuses a set of scenes with a model into files, and reconstructs them with its autoencoder."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.baselines import CEILINGS
from ditfuse_jax.evaluate.runner.scenes import Scene, Scenes
from ditfuse_jax.extensions import source_files
from ditfuse_jax.files import make_folder
from ditfuse_jax.flow import SOLVERS
from ditfuse_jax.images import (
    check_same_size,
    from_uint8,
    read_metadata,
    to_uint8,
    write_image,
)
from ditfuse_jax.model.attention import IMPLEMENTATIONS
from ditfuse_jax.model.heads import HEADS
from ditfuse_jax.model.space import LatentSpace
from ditfuse_jax.sample.fuser import Fuser, FusionInput
from ditfuse_jax.sample.sampler import make_codec
from ditfuse_jax.sample.standard_prompts import standard_prompt
from ditfuse_jax.sample.trained import TrainedModel

_KEY = "fingerprint"  # in an image's metadata
_VALUES_PER_LEAF = 4096


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
    fuser: Fuser, task: str, scenes: Scenes, folder: Path, suffix: str = ".png", quiet: bool = False
) -> FusedScenes:
    """Fuses scenes into `folder/STEM.png`, except those whose file this model has already made.

    Args:
      fuser: the model and its sampling settings.
      task: whose standard prompt is used.
      scenes: those in `excluded` are skipped.
      folder: created if it does not exist.
      suffix: ".jpg" saves with quality 95, for sets whose images are all JPEG.
      quiet: no progress bar.

    Raises:
      UserError: the prompt does not fit the model, or a file cannot be written.
    """
    make_folder(folder)
    code = extension_digest(fuser)
    model = f"{parameters_digest(fuser.trained)} {fuser.sampling}{code and f' {code}'}"
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
                excluded[stem] = str(error)
                bar.update()
                continue
            prompt = standard_prompt(task, len(scene.sources))
            fuser.check(prompt, len(scene.sources))
            fingerprint = _hash(f"{model} {prompt} {scene.digest}")
            if _has_fingerprint(path, fingerprint):
                files[stem] = path
                bar.update()
                continue
            metadata = {
                "Software": "ditfuse_jax",
                "prompt": prompt,
                "checkpoint": fuser.trained.name,
                _KEY: fingerprint,
            }
            waiting[number] = (stem, metadata)
            yield number, FusionInput(scene.sources, prompt)

    made = 0
    with bar:
        for done in fuser.fuse_iter(jobs()):
            for number, image in done.items():
                stem, metadata = waiting.pop(number)
                write_image(paths[stem], image, metadata)
                files[stem] = paths[stem]
                made += 1
                bar.update()
    seconds = bar.format_dict["elapsed"] / made if made else None
    ordered = {stem: files[stem] for stem in paths if stem in files}
    return FusedScenes(ordered, excluded, seconds)


def reconstruct_scenes(
    fuser: Fuser, scenes: Scenes, folder: Path, quiet: bool = False
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
        fingerprint = _hash(f"{code} {fuser.sampling.max_side} {scene.digest}")
        if not _has_fingerprint(path, fingerprint):
            write_image(path, reconstruct(fuser, image), {_KEY: fingerprint})
        files[stem] = path
    return CEILINGS[0 if of_clean else 1], files


def reconstruct(fuser: Fuser, image: np.ndarray) -> np.ndarray:
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


def parameters_digest(trained: TrainedModel) -> str:
    """Returns a digest of a model's weights: up to 4096 evenly spaced values of every array.

    Training and merging an adapter change nearly all values of an array, so the sample suffices to
    tell models apart, whatever their files and size.
    """
    hashed = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path((trained.parameters, trained.autoencoder))
    for path, leaf in leaves:
        flat = leaf.reshape(-1)
        sample = np.asarray(flat[:: max(1, flat.size // _VALUES_PER_LEAF)])
        hashed.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        hashed.update(sample.tobytes())
    model = trained.model.to_dict()
    del model["unroll"]  # does not change the layers
    hashed.update(json.dumps(model, default=str).encode())
    return hashed.hexdigest()


def extension_digest(fuser: Fuser) -> str:
    """Returns a digest of the extensions' code behind a model's images; "" if there is none.

    Extensions count if one of them registered the solver, the head or the attention.
    """
    model = fuser.trained.model
    solver, head = SOLVERS.find(fuser.sampling.solver), HEADS.find(model.head)
    files = source_files([solver, head, IMPLEMENTATIONS.find(model.attention)])
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest() if files else ""


def _ceiling_image(scene: Scene) -> np.ndarray:
    return scene.sources[0] if scene.clean is None else scene.clean


def _has_fingerprint(path: Path, fingerprint: str) -> bool:
    """Returns whether a file is complete and has this fingerprint."""
    if not path.is_file():
        return False
    try:
        return read_metadata(path).get(_KEY) == fingerprint
    except UserError:
        return False


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
