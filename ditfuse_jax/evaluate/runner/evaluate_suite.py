"""`ditfuse evaluate --suite`: scores a model and published results on several data sets."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.exports import Exports
from ditfuse_jax.evaluate.reports.page import RunInfo, render, score_table
from ditfuse_jax.evaluate.reports.tables import markdown_table
from ditfuse_jax.evaluate.results import Results
from ditfuse_jax.evaluate.runner.evaluate import EvaluationOptions, ModelMethod, evaluate_scenes
from ditfuse_jax.evaluate.runner.evaluated_model import sampled
from ditfuse_jax.evaluate.runner.scenes import Folders, open_scenes
from ditfuse_jax.evaluate.runner.suites import SUITES, EvaluationSet, Suite
from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.sample.stack_fuser import StackFuser
from ditfuse_jax.sample.trained import WeightedAdapter, load_trained
from ditfuse_jax.train.run_folder import package_versions


def evaluate_suite(
    name: str | Suite,
    *,
    output: Path,
    root: Path | None = None,
    checkpoint: Path | None = None,
    adapters: Sequence[WeightedAdapter] = (),
    base: Path | None = None,
    quantize: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    metrics: Sequence[str] | None = None,
    preset: str = "canonical",
    full_pictures: bool = False,
    quiet: bool = False,
) -> dict[str, Results]:
    """Scores a model and published fused images on a suite's sets, on luminance.

    Each set gets a folder with its report and the scores as files; `overview.md` and
    `overview.html` contain all tables.  Sets whose data is missing are skipped with a message.
    After an interruption the same call continues.

    Args:
      name: a key of `SUITES`, or a suite.
      output: a folder.
      root: the folder of the suite's data.
      checkpoint: of the model; without one only published results and baselines are scored.
      adapters, base, quantize: see `load_trained`.
      sampling: see `SamplingConfig.override`.
      metrics: on all sets, instead of those of each set's task.
      preset, full_pictures: see `EvaluationOptions`.
      quiet: no progress bar and no tables.

    Returns:
      Set name -> results.

    Raises:
      UserError: an unknown suite, no data at all, or a bad checkpoint.
    """
    suite = SUITES.find(name) if isinstance(name, str) else name
    if suite.conditions:
        raise UserError(f"the suite {suite.title!r} has conditions: use evaluate_degraded")
    output = as_path(output)
    root, present, missing = present_sets(suite, root)
    fuser = open_fuser(checkpoint, adapters, base, quantize, sampling, present)
    make_folder(output)
    options, results = EvaluationOptions(metrics, preset, full_pictures=full_pictures), {}
    for s in present:
        if not quiet:
            print(f"\n{s.title}", flush=True)
        results[s.name] = _evaluate_set(s, root, output / s.name, fuser, options, quiet)
    _write_overview(suite, present, missing, results, output, fuser, preset)
    if not quiet:
        print(f"\noverview: {output / 'overview.html'}")
    return results


def present_sets(
    suite: Suite, root: Path | None
) -> tuple[Path, list[EvaluationSet], list[EvaluationSet]]:
    """Returns the root of a suite's data, and its sets with and without data, which are named.

    Raises:
      UserError: no set has data.
    """
    root = as_path(root or suite.root)
    present = [s for s in suite.sets if all((root / folder).is_dir() for folder in s.sources)]
    missing = [s for s in suite.sets if s not in present]
    if not present:
        raise UserError(
            f"{root}: none of the suite's folders exists, e.g. {suite.sets[0].sources[0]}:"
            " name the folder of its data with --root"
        )
    for s in missing:
        lacking = next(root / folder for folder in s.sources if not (root / folder).is_dir())
        print(f"skipped {s.name}: no {lacking}", file=sys.stderr)
    return root, present, missing


def open_fuser(
    checkpoint: Path | None,
    adapters: Sequence[WeightedAdapter],
    base: Path | None,
    quantize: str | None,
    sampling: Mapping[str, Any] | None,
    sets: Sequence[EvaluationSet],
) -> StackFuser | None:
    """Returns a model with its sampling settings for some sets, or None without a checkpoint.

    Raises:
      UserError: a bad checkpoint or setting.
    """
    if not checkpoint:
        return None
    trained = load_trained(checkpoint, adapters, base, quantize=quantize)
    return StackFuser(trained, sampled(trained, sampling, [s.task for s in sets]))


def published_methods(s: EvaluationSet, root: Path) -> dict[str, Path]:
    """Returns the folders of a set's published fused images by method; empty if there are none.

    Hidden folders, such as those that Jupyter makes, are no methods.
    """
    folder = root / s.published if s.published else None
    if folder is None or not folder.is_dir():
        return {}
    shown = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return {path.name: path for path in shown if path.is_dir()}


def _evaluate_set(
    s: EvaluationSet,
    root: Path,
    folder: Path,
    fuser: StackFuser | None,
    options: EvaluationOptions,
    quiet: bool,
) -> Results:
    facts: dict[str, object] = {"set": s.name, "task": s.task, "compared on": "luminance"}
    if fuser:
        facts |= {"checkpoint": fuser.trained.name, **fuser.sampling.to_dict()}
    if s.note:
        facts["note"] = s.note
    make_folder(folder)
    files = {kind: folder / f"scores.{end}" for kind, end in _EXPORTS.items()}
    return evaluate_scenes(
        open_scenes(Folders(tuple(root / source for source in s.sources))),
        published_methods(s, root),
        folder,
        RunInfo(title=s.title, facts=facts, versions=package_versions()),
        model=ModelMethod(fuser, s.task, suffix=s.suffix) if fuser else None,
        task=s.metrics_of,
        options=dataclasses.replace(options, exports=Exports(**files)),
        quiet=quiet,
    )


_EXPORTS = {"json": "json", "csv": "csv", "markdown": "md", "latex": "tex"}


def _write_overview(
    suite: Suite,
    present: Sequence[EvaluationSet],
    missing: Sequence[EvaluationSet],
    results: Mapping[str, Results],
    output: Path,
    fuser: StackFuser | None,
    preset: str,
) -> None:
    model = f"`fused` is {fuser.trained.name}. " if fuser else ""
    skipped = [s.title for s in missing]
    parts = [f"# {suite.title}\n\n{model}Compared on luminance, at native size."]
    if skipped:
        parts.append(f"Skipped because their data is missing: {', '.join(skipped)}.")
    for s in present:
        parts += [f"## [{s.title}]({s.name}/report.html)", markdown_table(results[s.name])]
        parts += [s.note] if s.note else []
    write_text(output / "overview.md", "\n\n".join(parts) + "\n")
    page = render(
        "overview.html.j2",
        title=suite.title,
        model=fuser.trained.name if fuser else "",
        preset=preset,
        skipped=skipped,
        sets=[
            {"set": s, "count": results[s.name].count, "table": score_table(results[s.name])}
            | {"excluded": results[s.name].excluded}
            for s in present
        ],
    )
    write_text(output / "overview.html", page)
