"""`ditfuse evaluate`: fuses or reads fused images, scores them and baselines, writes the report."""

import dataclasses
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ditfuse_jax.errors import UserError, one_line
from ditfuse_jax.evaluate.baselines import method_title
from ditfuse_jax.evaluate.metrics import METRIC_PRESETS, METRICS, TASK_METRICS
from ditfuse_jax.evaluate.reports.contact_sheet import write_sheet
from ditfuse_jax.evaluate.reports.exports import Exports
from ditfuse_jax.evaluate.reports.page import RunInfo, pictured_scenes
from ditfuse_jax.evaluate.reports.report import write_report
from ditfuse_jax.evaluate.reports.tables import text_table
from ditfuse_jax.evaluate.results import Results
from ditfuse_jax.evaluate.runner.choose_metrics import ALL, choose_metrics
from ditfuse_jax.evaluate.runner.evaluated_model import open_model
from ditfuse_jax.evaluate.runner.fuse_scenes import (
    fuse_scenes,
    is_latent_model,
    reconstruct_scenes,
)
from ditfuse_jax.evaluate.runner.methods import (
    CLEAN_TITLE,
    DEFAULT_METHOD,
    FUSED_TITLE,
    VIEW_TITLES,
    check_method_names,
    method_files,
)
from ditfuse_jax.evaluate.runner.scenes import Folders, Scene, Scenes, open_scenes
from ditfuse_jax.evaluate.runner.score_cache import ScoreCache
from ditfuse_jax.evaluate.runner.score_scenes import FusedFiles, read_outputs, score_scenes
from ditfuse_jax.files import make_folder
from ditfuse_jax.images import RangeOption
from ditfuse_jax.paths import as_path, model_path, same_folder
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.standard_prompts import ONE_CAMERA_TASKS, check_standard_task
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter
from ditfuse_jax.train.metrics_files import read_metrics
from ditfuse_jax.train.run_folder import RunFolder, package_versions
from ditfuse_jax.weights.run_paths import find_checkpoint, is_run

_FUSED, _AUTOENCODER = "fused", "autoencoder"  # folders of a model's images
_SHEET_ROWS = 4  # of one contact sheet
_SHEET_SCENES = 12  # on all contact sheets
_MOST_PRINTED = 8  # exclusions


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How images are scored, and which files are written besides the report.

    Attributes:
      metrics: keys of `METRICS`, or "all"; by default those of the task.
      preset: a key of `METRIC_PRESETS`: the conventions of the code behind a published table.
      exports: files besides the report.
      full_pictures: write the report's pictures at full size beside it too.
    """

    metrics: Sequence[str] | None = None
    preset: str = "canonical"
    exports: Exports = dataclasses.field(default_factory=Exports)
    full_pictures: bool = False


@dataclasses.dataclass(frozen=True)
class ModelMethod:
    """A model that is compared as one of the methods.

    Attributes:
      fuser: the model with its sampling settings.
      task: whose standard prompt is used.
      name: in the tables.
      suffix: of its fused images' files; ".jpg" for sets whose images are all JPEG.
    """

    fuser: StackFuser
    task: str
    name: str = DEFAULT_METHOD
    suffix: str = ".png"


def evaluate(
    *,
    checkpoint: Path,
    data: str | Folders,
    fused: Mapping[str, Path | str] | None = None,
    output: Path | None = None,
    count: int | None = None,
    task: str = "fuse",
    options: EvaluationOptions | None = None,
    sampling: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quantize: str | None = None,
    value_range: RangeOption = "auto",
    align: str | Path | None = None,
    quiet: bool = False,
) -> Results:
    """Fuses the scenes of a data source with a model and scores them.

    After an interruption the same call continues: images already fused and scored are kept.

    Args:
      checkpoint: see `load_trained`.
      data: see `open_scenes`.
      fused: other methods to compare with: method -> folder of fused images.
      output: for `report.html`, `report.json`, `fused/`, `scores/` and `sheets/`; by default the
        run folder.
      count: at most this many scenes; photographs are reused with other degradations.
      task: whose standard prompt is used, and whose metrics by default.
      options: metrics and further files.
      sampling: sampling settings that differ from the model's own; see `SamplingConfig.override`.
        The seed is that of the degradations too.
      adapters: merged into the weights.
      base: the present place of the weights under a run's adapters, if they were moved.
      quantize: how to quantise the model; see `load_trained`.
      value_range: of sources with more than 8 bits; see `images.SourceRanges`.
      align: align the sources of each scene first; see `open_scenes`.
      quiet: no progress bar and no table.

    Raises:
      UserError: bad checkpoint, data or output.
    """
    check_standard_task(task)  # before anything is loaded
    evaluated = open_model(checkpoint, output, sampling, adapters, base, quantize, tasks=[task])
    trained = evaluated.fuser.trained
    scenes = open_scenes(
        data,
        count,
        evaluated.fuser.sampling.seed,
        value_range=value_range,
        one_camera=task in ONE_CAMERA_TASKS,
        align=align,
    )
    run = RunInfo(
        title=f"{trained.name} on {data}",
        facts=evaluated.facts(str(data))
        | _facts(
            task, value_range, align, data.clean if isinstance(data, Folders) else None, count
        ),
        config=_config(trained),
        versions=package_versions(),
        records=_records(checkpoint),
    )
    return evaluate_scenes(
        scenes,
        _as_paths(fused or {}),
        evaluated.folder,
        run,
        model=ModelMethod(evaluated.fuser, task),
        task=task,
        options=options,
        quiet=quiet,
    )


def evaluate_files(
    *,
    sources: Sequence[Path | str],
    fused: Path | str | Mapping[str, Path | str],
    clean: Path | str | None = None,
    output: Path | str | None = None,
    task: str = "fuse",
    options: EvaluationOptions | None = None,
    value_range: RangeOption = "auto",
    align: str | Path | None = None,
    quiet: bool = False,
) -> Results:
    """Scores existing fused images.  After an interruption the same call continues.

    Args:
      sources: two or more folders of source images with equal names.
      fused: a folder of fused images with the same names, or several: method -> folder.
      clean: a folder of clean images, if there are any.
      output: for `report.html`, `report.json`, `scores/` and `sheets/`; by default only the
        exports are written.
      task: a key of `TASK_METRICS`: whose metrics are computed by default.
      options: metrics and further files.
      value_range: of sources with more than 8 bits; see `images.SourceRanges`.
      align: as the fused images were made; see `open_scenes`.
      quiet: no progress bar and no table.

    Raises:
      UserError: a folder is missing, or none of its images can be scored.
    """
    if len(sources) < 2:
        raise UserError(f"fusion needs at least two folders of sources, not {len(sources)}")
    methods = _as_paths(fused if isinstance(fused, Mapping) else {DEFAULT_METHOD: fused})
    if not methods:
        raise UserError("name at least one folder of fused images")
    TASK_METRICS.find(task)
    folders = Folders(tuple(map(as_path, sources)), None if clean is None else as_path(clean))
    places = ", ".join(map(str, methods.values()))
    run = RunInfo(
        title=places if methods.keys() == {DEFAULT_METHOD} else ", ".join(methods),
        facts={"sources": str(folders), "fused": places}
        | _facts(task, value_range, align, folders.clean),
        versions=package_versions(),
    )
    one_camera = task in ONE_CAMERA_TASKS
    scenes = open_scenes(folders, value_range=value_range, one_camera=one_camera, align=align)
    if output is not None:
        return evaluate_scenes(
            scenes, methods, as_path(output), run, task=task, options=options, quiet=quiet
        )
    with tempfile.TemporaryDirectory(prefix="ditfuse-") as folder:
        results = evaluate_scenes(
            scenes, methods, Path(folder), run, task=task, options=options, quiet=True
        )
    if not quiet:
        print(text_table(results))
    return results


def evaluate_scenes(
    scenes: Scenes,
    methods: Mapping[str, Path],
    folder: Path,
    run: RunInfo,
    *,
    model: ModelMethod | None = None,
    task: str,
    options: EvaluationOptions | None = None,
    quiet: bool = False,
) -> Results:
    """Fuses scenes with the model if there is one, scores all methods, and writes the report.

    Args:
      scenes: to evaluate on.
      methods: method -> folder of fused images.
      folder: for all files.
      run: what the report shows besides the scores.
      model: becomes the first method.
      task: whose metrics are computed by default.
      options: metrics and further files.
      quiet: no progress bar and no table.

    Raises:
      UserError: see `evaluate`.
    """
    options = options or EvaluationOptions()
    names = choose_metrics(options.metrics, task)
    METRIC_PRESETS.find(options.preset)
    check_method_names([*methods, *([model.name] if model else [])])
    if model and model.name in methods:
        raise UserError(f"a method cannot be called {model.name!r} beside a model: rename it")
    if model:
        _check_not_overwritten(model, folder, [*methods.values(), *scenes.folders])
    files, missing = method_files(methods, scenes)
    scenes = _without(scenes, missing)
    options.exports.make_folders()
    make_folder(folder)
    if model:
        scenes, files, run = _with_model(model, scenes, files, folder, run, quiet)
    cache = ScoreCache(folder / "scores", options.preset, names)
    strict = options.metrics is not None and ALL not in map(str.lower, options.metrics)
    results = score_scenes(scenes, files, names, cache, strict=strict, quiet=quiet)
    facts: dict[str, object] = {**run.facts, "preset": options.preset}
    if left_out := _not_computed(names, results):
        facts["not computed"] = left_out
    run = dataclasses.replace(run, facts=facts)
    _write_sheets(folder / "sheets", scenes, files, list(results.images)[:_SHEET_SCENES])
    shown = (
        (stem, pictures(*read_outputs(scenes, files, stem))) for stem in pictured_scenes(results)
    )
    report = write_report(folder, results, shown, run, full_pictures=options.full_pictures)
    options.exports.write(results, run.facts)
    print_excluded(results)
    if not quiet:
        print(text_table(results))
        print(f"report: {report}")
    return results


def _not_computed(names: Sequence[str], results: Results) -> list[str]:
    """Returns the metrics that no image allows, each with the first reason.

    Those that compare with a clean image, which most data lacks, are left out.
    """
    return [
        f"{name} ({next(iter(results.impossible[name].values()))})"
        for name in names
        if name not in results.metrics and METRICS[name].needs != "clean"
    ]


def pictures(scene: Scene, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a scene's pictures by title: views, methods, clean image."""
    titled = dict(zip(VIEW_TITLES, scene.sources, strict=False))
    for method, image in outputs.items():
        titled[FUSED_TITLE if method == DEFAULT_METHOD else method_title(method)] = image
    if scene.clean is not None:
        titled[CLEAN_TITLE] = scene.clean
    return titled


def print_excluded(results: Results) -> None:
    """Prints to the error stream which images were not scored and are in no mean."""
    if results.excluded:
        total = results.count + len(results.excluded)
        print(f"warning: {len(results.excluded)} of {total} images excluded:", file=sys.stderr)
        for stem, reason in list(results.excluded.items())[:_MOST_PRINTED]:
            print(one_line(f"  {stem}: {reason}"), file=sys.stderr)
        if len(results.excluded) > _MOST_PRINTED:
            print("  ...; all of them are in report.html and report.json", file=sys.stderr)


def _check_not_overwritten(model: ModelMethod, folder: Path, read: Iterable[Path]) -> None:
    """Raises UserError if the model's images would be written into a folder that is read."""
    names = (_FUSED, _AUTOENCODER) if is_latent_model(model.fuser.trained) else (_FUSED,)
    for written in (folder / name for name in names):
        for one in read:
            if same_folder(one, written):
                raise UserError(
                    f"{one}: images of the model would be written over those in this folder: name "
                    "another folder for the results with --output"
                )


def _as_paths(folders: Mapping[str, Path | str]) -> dict[str, Path]:
    return {name: as_path(folder) for name, folder in folders.items()}


def _without(scenes: Scenes, excluded: Mapping[str, str]) -> Scenes:
    return dataclasses.replace(scenes, excluded={**scenes.excluded, **excluded})


def _with_model(
    model: ModelMethod, scenes: Scenes, files: FusedFiles, folder: Path, run: RunInfo, quiet: bool
) -> tuple[Scenes, FusedFiles, RunInfo]:
    """Adds the model's fused images before the methods', and its ceiling after them."""
    fused = fuse_scenes(model.fuser, model.task, scenes, folder / _FUSED, model.suffix, quiet)
    facts = dict(run.facts)
    if fused.seconds_per_image is not None:
        facts["seconds per image"] = fused.seconds_per_image
    scenes = _without(scenes, fused.excluded)
    files = {model.name: fused.files, **files}
    if is_latent_model(model.fuser.trained):
        name, reconstructions = reconstruct_scenes(
            model.fuser, scenes, folder / _AUTOENCODER, quiet
        )
        files[name] = reconstructions
        facts["ceiling"] = method_title(name)
    return scenes, files, dataclasses.replace(run, facts=facts)


def _write_sheets(folder: Path, scenes: Scenes, files: FusedFiles, stems: Sequence[str]) -> None:
    make_folder(folder)
    number = 0
    for number, batch in enumerate(_batched(stems, _SHEET_ROWS), start=1):
        rows = [pictures(*read_outputs(scenes, files, stem)) for stem in batch]
        grid = [list(row.values()) for row in rows]
        write_sheet(folder / f"sheet-{number}.png", grid, list(rows[0]), list(batch))
    while (old := folder / f"sheet-{number + 1}.png").exists():  # of an earlier run
        old.unlink()
        number += 1


def _batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _records(checkpoint: Path) -> list[dict[str, Any]]:
    """Returns the metrics of the run that a checkpoint belongs to, if it belongs to one."""
    path = model_path(checkpoint)
    return read_metrics(RunFolder(find_checkpoint(path)[0]).metrics) if is_run(path) else []


def _facts(
    task: str,
    value_range: RangeOption,
    align: str | Path | None,
    clean: Path | None,
    count: int | None = None,
) -> dict[str, object]:
    """What else is needed to repeat an evaluation; what was left at its default is left out."""
    facts: dict[str, object] = {"task": task}
    if clean is not None:
        facts["clean images"] = str(clean)
    if count is not None:
        facts["count"] = count
    if value_range != "auto":
        facts["range"] = value_range
    if align is not None:
        facts["sources aligned by"] = str(align)
    return facts


def _config(trained: TrainedModel) -> dict[str, Any]:
    return {"model": trained.model.to_dict()}
