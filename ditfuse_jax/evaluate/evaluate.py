"""`ditfuse evaluate`: fuse or read fused images, score them beside baselines, write the report."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.report import Run, write_report
from ditfuse_jax.evaluate.scenes import Scene, read_method, read_scenes, scene_stems
from ditfuse_jax.evaluate.scores import Example, Results, score_methods, text_table
from ditfuse_jax.evaluate.sheets import write_sheet
from ditfuse_jax.files import make_folder
from ditfuse_jax.images import check_same_size, paired_files, read_image, write_image
from ditfuse_jax.sample.files import standard_prompt
from ditfuse_jax.sample.fuser import Fuser, Job, sampling_settings
from ditfuse_jax.sample.trained import TrainedModel, WeightedAdapter, load_trained
from ditfuse_jax.train.checkpoint import find_checkpoint, is_run
from ditfuse_jax.train.run_folder import RunFolder, package_versions, read_metrics

# Rows of one sheet, and pictures that the report shows.
_SHEET_ROWS = 4
_SHOWN = 12


def evaluate(
    *,
    checkpoint: Path,
    data: str,
    output: Path | None = None,
    count: int | None = None,
    task: str = "fuse",
    changes: Mapping[str, Any] | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quiet: bool = False,
) -> Results:
    """Fuses the scenes of a data source with a model and scores them.

    Args:
      checkpoint: see `load_trained`.
      data: see `read_scenes`.
      output: where `report.html`, `report.json`, `fused/` and `sheets/` go; by default the run
        folder.
      count: at most this many scenes; photographs are reused with other degradations.
      task: whose standard prompt is used.
      changes: sampling settings that differ from the model's own; see `sampling_settings`.  The
        seed is that of the degradations too.
      adapters: merged into the weights.
      base: where the weights under a run's adapters are now, if they were moved.
      quiet: no progress, no table.

    Raises:
      UserError: what is wrong with checkpoint, data or output.
    """
    trained = load_trained(checkpoint, adapters, base)
    if output is None and not is_run(checkpoint):
        raise UserError(f"{checkpoint} is no run folder: say with --output where the report goes")
    settings = sampling_settings(trained, changes or {})
    stems = scene_stems(data, count)
    standard_prompt(task, 2)  # an unknown task is told before anything is made
    folder = Path(output).expanduser() if output else _run_folder(checkpoint)
    make_folder(folder / "fused")
    started = time.monotonic()
    fused = _fuse(read_scenes(data, count, settings.seed), Fuser(trained, settings), task)
    scored, shown = _score(_progress(fused, len(stems), "evaluating", quiet), folder / "fused")
    seconds = (time.monotonic() - started) / len(stems)
    run = Run(
        title=f"{trained.name} on {data}",
        facts={
            "checkpoint": trained.name,
            "data": data,
            "steps": settings.steps,
            "guidance": settings.guidance.text,
            "image guidance": settings.guidance.image,
            "seed": settings.seed,
            "seconds per image": seconds,
        },
        config=_config(trained),
        versions=package_versions(),
        records=read_metrics(RunFolder(_run_folder(checkpoint)).metrics),
    )
    _write(folder, scored, shown, run, quiet)
    return scored


def evaluate_files(
    *,
    sources: Sequence[Path],
    fused: Path,
    clean: Path | None = None,
    output: Path,
    quiet: bool = False,
) -> Results:
    """Scores fused images made by anyone.

    Args:
      sources: two or more folders of source images with equal names.
      fused: a folder of fused images of the same names.
      clean: a folder of reference images, if there are any.
      output: where `report.html`, `report.json` and `sheets/` go.
      quiet: no progress, no table.

    Raises:
      UserError: a missing partner, a damaged image, sizes that differ.
    """
    stacks = paired_files(*sources)
    stems = [paths[0].stem for paths in stacks]
    outputs = read_method(Path(fused), stems)
    references = read_method(Path(clean), stems) if clean else {}
    make_folder(Path(output))

    def read() -> Iterator[tuple[Scene, np.ndarray]]:
        for stem, paths in zip(stems, stacks, strict=True):
            files = [*paths, outputs[stem], *([references[stem]] if references else [])]
            images = [read_image(path) for path in files]
            check_same_size(images, files)
            reference = images[-1] if references else None
            yield Scene(stem, tuple(images[: len(paths)]), reference), images[len(paths)]

    scored, shown = _score(_progress(read(), len(stems), "scoring", quiet), None)
    run = Run(title=f"{fused}", facts={"fused": str(fused)}, versions=package_versions())
    _write(Path(output), scored, shown, run, quiet)
    return scored


def _fuse(scenes: Iterator[Scene], fuser: Fuser, task: str) -> Iterator[tuple[Scene, np.ndarray]]:
    waiting: dict[int, Scene] = {}

    def jobs() -> Iterator[tuple[int, Job]]:
        for number, scene in enumerate(scenes):
            names = [f"{scene.stem} image {i + 1}" for i in range(len(scene.sources))]
            check_same_size(scene.sources, names)
            waiting[number] = scene
            yield number, Job(scene.sources, standard_prompt(task, len(scene.sources)))

    for done in fuser.fuse_iter(jobs()):
        for number, image in done.items():
            yield waiting.pop(number), image


def _score(
    fused: tqdm.tqdm, folder: Path | None
) -> tuple[Results, dict[str, dict[str, np.ndarray]]]:
    """Scores a stream of (scene, output), saving to `folder`; keeps the first few to show."""
    shown: dict[str, dict[str, np.ndarray]] = {}

    def examples() -> Iterator[Example]:
        for scene, image in fused:
            if folder:
                write_image(folder / f"{scene.stem}.png", image)
            if len(shown) < _SHOWN:
                shown[scene.stem] = pictures(scene, image)
            yield Example(scene.stem, scene.sources, {"fused": image}, scene.clean)

    with fused:  # an error ends the bar's line before its message is printed
        return score_methods(examples()), shown


def pictures(scene: Scene, fused: np.ndarray) -> dict[str, np.ndarray]:
    """The pictures of a scene under their titles: views, fused, clean."""
    titled = {f"View {letter}": image for letter, image in zip("ABCD", scene.sources, strict=False)}
    titled["Fused"] = fused
    if scene.clean is not None:
        titled["Clean"] = scene.clean
    return titled


def _write(
    folder: Path,
    scored: Results,
    shown: Mapping[str, Mapping[str, np.ndarray]],
    run: Run,
    quiet: bool,
) -> None:
    make_folder(folder / "sheets")
    for number, stems in enumerate(_batched(list(shown), _SHEET_ROWS), start=1):
        titles = list(shown[stems[0]])
        rows = [list(shown[stem].values()) for stem in stems]
        write_sheet(folder / "sheets" / f"sheet-{number}.png", rows, titles, stems)
    report = write_report(folder, scored, shown, run)
    if not quiet:
        print(text_table(scored))
        print(f"report: {report}")


def _batched(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _progress(stream: Iterator[Any], total: int, what: str, quiet: bool) -> tqdm.tqdm:
    return tqdm.tqdm(stream, total=total, unit="img", desc=what, disable=quiet)


def _run_folder(checkpoint: Path) -> Path:
    path = Path(checkpoint).expanduser()
    return find_checkpoint(path)[0] if is_run(path) else path


def _config(trained: TrainedModel) -> dict[str, Any]:
    return {"model": trained.recipe.model.to_dict()}
