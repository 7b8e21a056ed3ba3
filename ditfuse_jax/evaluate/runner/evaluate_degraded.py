"""`ditfuse evaluate --suite degraded` and `misaligned`: the fusion of degraded sources.

In `degraded` each method is compared with itself: its fused image of the degraded sources with its
fused image of the clean ones.  A model is also asked to repair the defect (`repaired`), and then
compared with its image of the clean sources without a request.  A method that ignores its sources
would be best, so the numbers belong beside those of the suite `dev`.  In `misaligned` fused images
are scored against the clean sources; if sources are aligned first, against the clean ones after the
same alignment.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.align import RESIDUAL
from ditfuse_jax.degrade.defects import IMAGE_DEFECTS, apply_defect
from ditfuse_jax.errors import UserError, is_temporary
from ditfuse_jax.evaluate.baselines import BASELINES, method_title
from ditfuse_jax.evaluate.metrics import compute_metrics_of_candidates
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.reports.exports import json_text
from ditfuse_jax.evaluate.runner.align_scenes import SceneAligner
from ditfuse_jax.evaluate.runner.asked_repairs import (
    REPAIRED,
    degraded_source,
    repair_requests,
)
from ditfuse_jax.evaluate.runner.degraded_results import (
    CLEAN,
    METRICS_AGAINST,
    Case,
    DegradedResults,
    Values,
    as_json,
    degraded_cases,
    tables,
)
from ditfuse_jax.evaluate.runner.evaluate_suite import open_fuser, present_sets
from ditfuse_jax.evaluate.runner.fuse_scenes import fuse_scenes
from ditfuse_jax.evaluate.runner.methods import DEFAULT_METHOD
from ditfuse_jax.evaluate.runner.scenes import Folders, Scene, Scenes, open_scenes
from ditfuse_jax.evaluate.runner.score_cache import MethodScores, ScoreCache
from ditfuse_jax.evaluate.runner.suites import SUITES, Condition, EvaluationSet, Suite
from ditfuse_jax.files import make_folder, prepare_text_file, write_text
from ditfuse_jax.images import read_image
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.requests import Request
from ditfuse_jax.sample.fingerprints import pixels_digest
from ditfuse_jax.sample.program_cache import free_compiled_programs
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.train.run_folder import package_versions


def evaluate_degraded(
    name: str | Suite,
    *,
    output: Path,
    root: Path | None = None,
    checkpoint: Path | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quantize: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    count: int | None = None,
    align: str | None = None,
    json: Path | None = None,
    quiet: bool = False,
) -> DegradedResults:
    """Fuses clean and degraded sources with a model and the baselines, and compares the results.

    The degraded sources depend on the set, the image, the defect and the strength alone.  After an
    interruption the same call continues: fused images and scores are kept.  `output` gets
    `NAME.md`, `NAME.json`, and a folder per set with `fused/`, `NAME-scores/` and `NAME-sheet.png`,
    so that several suites may share it.

    Args:
      name: a key of `SUITES`, or a suite, whose files are then named after its title; it has
        `conditions`.
      output: a folder.
      root, checkpoint, adapters, base, quantize, sampling: see `evaluate_suite`; without a
        checkpoint only the baselines are compared.
      count: at most this many images of each set, evenly spaced.
      align: `residual` undoes small shifts of all sources, the clean ones too, before they are
        fused and scored; for suites that score against the sources.
      json: a further place for `NAME.json`.
      quiet: no progress bar and no tables.

    Raises:
      UserError: an unknown suite or defect, a bad checkpoint or count, an alignment that does not
        serve, a file that cannot be written, or nothing to score.
    """
    suite = SUITES.find(name) if isinstance(name, str) else name
    name = name if isinstance(name, str) else re.sub(r"\W+", "_", name.title.lower())
    if not suite.conditions:
        raise UserError(f"the suite {suite.title!r} has no conditions: use evaluate_suite")
    for condition in suite.conditions:
        IMAGE_DEFECTS.find(condition.defect)
    if count is not None and count < 1:
        raise UserError(f"count must be at least 1, not {count}")
    if align is not None and (align != RESIDUAL or suite.against != "sources"):
        raise UserError(
            f"--align {align} does not serve the suite {suite.title!r}: only {RESIDUAL} keeps all "
            "pixels, and only suites that score against the sources, such as misaligned, take it"
        )
    output, json = as_path(output), as_path(json) if json else None
    root, sets, _ = present_sets(suite, root)
    fuser = open_fuser(checkpoint, adapters, base, quantize, sampling, sets)
    make_folder(output)
    if json:
        prepare_text_file(json)
    values: dict[str, Values] = {}
    excluded: dict[str, dict[str, str]] = {}
    for s in sets:
        if not quiet:
            print(f"\n{s.title}", flush=True)
        values[s.name], excluded[s.name] = _evaluate_set(
            suite, s, root, output / s.name, name, fuser, count, align, quiet
        )
    results = DegradedResults(values, excluded)
    if not any(values.values()):
        why = next((w for of in excluded.values() for w in of.values()), "no image")
        raise UserError(f"nothing to score: all images were excluded ({why})")
    facts = {"suite": suite.title, "versions": package_versions()}
    if align is not None:
        facts["sources aligned by"] = align
    if fuser:
        facts |= {"checkpoint": fuser.trained.name, **fuser.sampling.to_dict()}
    text = json_text(as_json(results, suite, facts))
    for path in (output / f"{name}.json", *([json] if json else [])):
        write_text(path, text)
    shown = tables(results, suite, fuser.trained.name if fuser else None, align)
    write_text(output / f"{name}.md", shown)
    if not quiet:
        print(shown)
        print(f"tables: {output / f'{name}.md'}")
    return results


def degraded_sources(
    sources: Sequence[np.ndarray],
    condition: Condition,
    strength: float,
    *,
    cameras: bool,
    key: str,
) -> tuple[np.ndarray, ...]:
    """Returns a scene's sources with a defect, drawn from what `key` names and nothing else.

    Args:
      sources: uint8 `(H, W, 3)` each.
      condition: the defect, and which sources have it.
      strength: 0 to 1.
      cameras: whether the sources are of a visible and an infrared camera.
      key: of the scene, e.g. "tno_dev/bench".
    """
    one = degraded_source(condition, cameras)
    damaged = []
    for number, image in enumerate(sources):
        if one not in (None, number):
            damaged.append(image)
            continue
        text = f"{key} {condition.defect} {strength:g} {number}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        rng = np.random.default_rng(seed)
        damaged.append(apply_defect(image, condition.defect, strength, rng))
    return tuple(damaged)


def _evaluate_set(
    suite: Suite,
    s: EvaluationSet,
    root: Path,
    folder: Path,
    name: str,
    fuser: StackFuser | None,
    count: int | None,
    align: str | None,
    quiet: bool,
) -> tuple[Values, dict[str, str]]:
    opened = open_scenes(Folders(tuple(root / source for source in s.sources)))
    stems = _spread(list(opened.readers), count)
    excluded = dict(opened.excluded)
    cases = [(c, strength) for c in suite.conditions for strength in c.strengths]
    metrics = METRICS_AGAINST[suite.against]
    variants: dict[str, dict[Case, Callable[[], Scene]]] = {}
    # All variants of a scene are read after each other: one of the set is in memory.
    read_clean = functools.lru_cache(maxsize=1)(lambda stem: opened.readers[stem]())
    for stem in stems:
        read = functools.partial(read_clean, stem)
        variants[stem] = {CLEAN: read}
        for c, strength in cases:
            variants[stem][c.defect, strength] = functools.partial(
                _damaged, read, c, strength, s, stem
            )
    if align is not None:
        aligner = SceneAligner(align)
        for stem, of in variants.items():
            variants[stem] = {
                case: functools.partial(_aligned, aligner, read, _name(stem, case))
                for case, read in of.items()
            }
    files: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    if fuser:
        repairs = repair_requests(suite, _has_cameras(s), fuser.sampling)
        readers: dict[str, Callable[[], Scene]] = {}
        adjustments: dict[str, list[Request]] = {}
        for stem, of in variants.items():
            for case, read in of.items():
                readers[_name(stem, case)] = read
                if case[0] in repairs:
                    repaired = _name(stem, case, REPAIRED)
                    readers[repaired], adjustments[repaired] = read, [repairs[case[0]]]
        fused = fuse_scenes(
            fuser, s.task, Scenes(readers), folder / "fused", s.suffix, quiet, adjustments
        )
        files, reasons = fused.files, fused.excluded
    cache = ScoreCache(folder / f"{name}-scores", names=metrics)
    values: Values = {}
    for stem in tqdm.tqdm(stems, unit="img", desc="scoring", disable=quiet):
        free_compiled_programs()
        try:
            for case in variants[stem]:
                if why := reasons.get(_name(stem, case)):
                    raise UserError(why)
            values[stem] = _score(stem, variants[stem], files, bool(fuser), cache, suite.against)
        except UserError as error:
            if is_temporary(error):
                raise
            excluded[stem] = str(error)
    if values:
        _write_sheet(folder / f"{name}-sheet.png", next(iter(values)), variants, files, suite)
    return values, excluded


def _has_cameras(s: EvaluationSet) -> bool:
    return s.metrics_of == "ivif"


def _spread(stems: list[str], count: int | None) -> list[str]:
    if count is None or count >= len(stems):
        return stems
    return [stems[(2 * k + 1) * len(stems) // (2 * count)] for k in range(count)]


def _damaged(
    read: Callable[[], Scene], condition: Condition, strength: float, s: EvaluationSet, stem: str
) -> Scene:
    scene = read()
    sources = degraded_sources(
        scene.sources,
        condition,
        strength,
        cameras=_has_cameras(s),
        key=f"{s.name}/{stem}",
    )
    return Scene(_name(stem, (condition.defect, strength)), sources)


def _aligned(aligner: SceneAligner, read: Callable[[], Scene], name: str) -> Scene:
    scene = read()
    names = [f"{name} image {k + 1}" for k in range(len(scene.sources))]
    return Scene(name, aligner(name, scene.sources, names)[0])


def _name(stem: str, case: Case, method: str = DEFAULT_METHOD) -> str:
    name = f"{stem}-{case[0]}" if case == CLEAN else f"{stem}-{case[0]}-{case[1]:g}"
    return name if method == DEFAULT_METHOD else f"{name}-{method}"


def _outputs(
    stem: str, case: Case, read: Callable[[], Scene], files: Mapping[str, Path], model: bool
) -> dict[str, np.ndarray]:
    """Method -> its fused image of a variant."""
    outputs: dict[str, np.ndarray] = {}
    if model:
        for method in (DEFAULT_METHOD, REPAIRED):
            if path := files.get(_name(stem, case, method)):
                outputs[method] = read_image(path, value_range="full")
        if DEFAULT_METHOD not in outputs:
            raise UserError(f"{stem}: was not fused")
    sources = read().sources
    return outputs | {name: fuse(sources) for name, fuse in BASELINES.items()}


def _score(
    stem: str,
    variants: Mapping[Case, Callable[[], Scene]],
    files: Mapping[str, Path],
    model: bool,
    cache: ScoreCache,
    against: str,
) -> dict[Case, dict[str, dict[str, float]]]:
    """Returns case -> metric -> method -> value; see `Suite.against`."""
    metrics = METRICS_AGAINST[against]
    by_case = {case: _outputs(stem, case, read, files, model) for case, read in variants.items()}
    references: dict[str, tuple[np.ndarray, ...]]
    if against == "sources":
        references = dict.fromkeys(by_case[CLEAN], variants[CLEAN]().sources)
    else:
        references = {m: (image,) for m, image in by_case.pop(CLEAN).items()}
        if model:
            references[REPAIRED] = references[DEFAULT_METHOD]
    rows = {f"{m} {_name('', case)}": (m, case) for case, of in by_case.items() for m in of}
    fingerprints = {
        row: cache.fingerprint(
            " ".join(map(pixels_digest, references[m])), pixels_digest(by_case[case][m])
        )
        for row, (m, case) in rows.items()
    }
    scores: MethodScores = cache.read(stem, fingerprints)
    lacking = dict.fromkeys(m for row, (m, _) in rows.items() if not scores.get(row))
    for m in lacking:  # all cases of a method in one program, the same for most methods
        cases = [case for case, of in by_case.items() if m in of]
        clean = references[m][0] if against == "fusion" else None
        new = compute_metrics_of_candidates(
            [by_case[case][m] for case in cases], references[m], clean, metrics
        )
        for place, case in enumerate(cases):
            row = f"{m} {_name('', case)}"
            scores[row] = {metric: float(new[metric][place]) for metric in metrics}
    if lacking:
        cache.write(stem, fingerprints, scores)
    return {
        case: {
            metric: {m: scores[f"{m} {_name('', case)}"][metric] for m in of} for metric in metrics
        }
        for case, of in by_case.items()
    }


def _write_sheet(
    path: Path,
    stem: str,
    variants: Mapping[str, Mapping[Case, Callable[[], Scene]]],
    files: Mapping[str, Path],
    suite: Suite,
) -> None:
    """The strongest degradation of each kind of one image: sources and fused images."""
    strongest = {case[0]: case for case in degraded_cases(suite)}
    cases = [CLEAN, *strongest.values()]
    outputs = [_outputs(stem, case, variants[stem][case], files, bool(files)) for case in cases]
    methods = (DEFAULT_METHOD, REPAIRED, "mean", "max")
    shown = [m for m in methods if any(m in of for of in outputs)]
    rows, titles = [], []
    for case, of in zip(cases, outputs, strict=True):
        sources = variants[stem][case]().sources
        nothing = np.full_like(sources[0], 255)  # such as the repair of a defect that has none
        rows.append([*sources, *(of.get(m, nothing) for m in shown)])
        titles.append(case[0] if case == CLEAN else f"{case[0]} {case[1]:g}")
    letters = [f"Source {letter}" for letter in "ABCD"[: len(rows[0]) - len(shown)]]
    write_sheet(path, rows, [*letters, *map(method_title, shown)], titles)
