"""Scores a set of scenes: every method and baseline on the images that all methods have."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError, is_temporary
from ditfuse_jax.evaluate.baselines import BASELINES
from ditfuse_jax.evaluate.metrics import compute_metrics_of_candidates
from ditfuse_jax.evaluate.results import Results
from ditfuse_jax.evaluate.runner.choose_metrics import impossible_metrics
from ditfuse_jax.evaluate.runner.scenes import Scene, Scenes
from ditfuse_jax.evaluate.runner.score_cache import MethodScores, ScoreCache
from ditfuse_jax.images import check_same_size, read_image
from ditfuse_jax.sample.fingerprints import pixels_digest
from ditfuse_jax.sample.program_cache import free_compiled_programs

FusedFiles = Mapping[str, Mapping[str, Path]]  # method -> stem -> fused image


def score_scenes(
    scenes: Scenes,
    files: FusedFiles,
    names: Sequence[str],
    cache: ScoreCache,
    *,
    strict: bool = False,
    quiet: bool = False,
) -> Results:
    """Scores fused images and baselines, except those whose scores are in the cache.

    A scene is excluded, with the reason, if one of its files is damaged or has another size.

    Args:
      scenes: those in `scenes.excluded` are excluded here too.
      files: every method has a file for every scene that is not excluded.
      names: keys of `METRICS`.
      cache: of the scores; its preset is used.
      strict: whether to exclude a scene for which one of the metrics is impossible; otherwise only
        that value is missing.
      quiet: no progress bar.

    Raises:
      UserError: no scene can be scored, or the cache cannot be written.
    """
    images, excluded = {}, dict(scenes.excluded)
    impossible: dict[str, dict[str, str]] = {}  # metric -> stem -> why
    stems = [stem for stem in scenes.readers if stem not in excluded]
    with tqdm.tqdm(stems, unit="img", desc="scoring", disable=quiet) as bar:
        for stem in bar:
            free_compiled_programs()
            try:
                scene, outputs = read_outputs(scenes, files, stem)
                left_out = impossible_metrics(names, cache.preset, scene)
                if strict and left_out:
                    name, reason = next(iter(left_out.items()))
                    raise UserError(f"{stem}: metric {name} {reason}")
                wanted = [name for name in names if name not in left_out]
                scores, fingerprints, new = _scores(scene, outputs, wanted, cache)
            except UserError as error:
                if is_temporary(error):
                    raise
                excluded[stem] = str(error)
                continue
            if new:
                cache.write(stem, fingerprints, scores)
            images[stem] = _by_metric(names, outputs, scores)
            for name, reason in left_out.items():
                impossible.setdefault(name, {})[stem] = reason
    if not any(images.values()):
        reasons = "; ".join(f"{stem}: {reason}" for stem, reason in list(excluded.items())[:1])
        raise UserError(
            f"nothing to score: all {len(excluded)} image(s) were excluded ({reasons})"
            if excluded
            else f"nothing to score: metric {_first_reason(impossible)}"
        )
    return Results(images, excluded, cache.preset, impossible)


def _first_reason(impossible: Mapping[str, Mapping[str, str]]) -> str:
    name, reasons = next(iter(impossible.items()))
    stem, reason = next(iter(reasons.items()))
    return f"{name} {reason} ({stem})"


def read_outputs(
    scenes: Scenes, files: FusedFiles, stem: str
) -> tuple[Scene, dict[str, np.ndarray]]:
    """Reads a scene and each method's image of it.

    Raises:
      UserError: a damaged file, fewer than two sources, or unequal sizes; the message has the path.
    """
    scene = scenes.readers[stem]()
    if len(scene.sources) < 2:
        raise UserError(f"{stem}: fusion needs at least two source images")
    outputs = {}
    for method, paths in files.items():
        outputs[method] = read_image(paths[stem], value_range="full")  # as `fuse` writes it
        check_same_size([scene.sources[0], outputs[method]], [f"{stem}", paths[stem]])
    return scene, outputs


def _scores(
    scene: Scene,
    outputs: Mapping[str, np.ndarray],
    wanted: Sequence[str],
    cache: ScoreCache,
) -> tuple[MethodScores, dict[str, str], bool]:
    """Returns scores by method, the fingerprints, and whether any score is new."""
    candidates = {**outputs, **{name: fuse(scene.sources) for name, fuse in BASELINES.items()}}
    scene_digest = scene.digest
    fingerprints = {
        method: cache.fingerprint(scene_digest, pixels_digest(image))
        for method, image in candidates.items()
    }
    scores = {method: {} for method in candidates} | cache.read(scene.stem, fingerprints)
    # A method that lacks any metric is scored on all: one program instead of one per metric.
    lacking = [m for m, row in scores.items() if any(name not in row for name in wanted)]
    if lacking:
        images = [candidates[method] for method in lacking]
        new = compute_metrics_of_candidates(
            images, scene.sources, scene.clean, wanted, cache.preset
        )
        for place, method in enumerate(lacking):
            scores[method] |= {name: float(new[name][place]) for name in wanted}
    return scores, fingerprints, bool(lacking)


def _by_metric(
    names: Sequence[str], outputs: Mapping[str, np.ndarray], scores: MethodScores
) -> dict[str, dict[str, float]]:
    order = [*outputs, *BASELINES]
    rows = {
        name: {method: scores[method][name] for method in order if name in scores[method]}
        for name in names
    }
    return {name: row for name, row in rows.items() if row}
