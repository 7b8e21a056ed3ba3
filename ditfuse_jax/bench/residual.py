"""Measures what `--align residual` saves of a fusion whose second sources are shifted.

    python -m ditfuse_jax.bench.residual DIR1 DIR2 --task ivif --shift 3
    python -m ditfuse_jax.bench.residual PHOTOGRAPHS LABELS --simulate

DIR1 and DIR2 hold images of equal names (the stem counts).  Each pair is fused as it is and with
its second image shifted, without and with the alignment, and scored against the unshifted sources.
So that these are a fair reference, only pairs count whose stored registration two estimates confirm
to half a pixel: the one that `residual` makes, and mutual information, which it does not use.  With
`--simulate`, the second images are infrared images simulated from photographs and their labels:
these are registered by construction, and all of them count.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.align import RESIDUAL, estimate_alignment
from ditfuse_jax.bench.align import find_pairs
from ditfuse_jax.checks import check_at_least
from ditfuse_jax.degrade.misalign import MAX_SHIFT
from ditfuse_jax.degrade.simulated_infrared import simulated_infrared
from ditfuse_jax.errors import UserError, exit_code
from ditfuse_jax.evaluate.runner.degraded_results import CLEAN, METRICS_AGAINST, DegradedResults
from ditfuse_jax.evaluate.runner.evaluate_degraded import evaluate_degraded
from ditfuse_jax.evaluate.runner.suites import Condition, EvaluationSet, Suite
from ditfuse_jax.images import read_image, write_image
from ditfuse_jax.paths import model_path
from ditfuse_jax.tasks import STREET_CLASSES, check_labels

# Pixels within which both estimates must call a pair registered.
_REGISTERED = 0.5
# Pixels along x and y, and grey levels, of the search by mutual information.
_RADIUS, _BINS = 4, 32
_NAME = "pairs"
_FOLDERS = ("first", "second")


def shift_by_mutual_information(reference: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Returns the shift (x, y) in pixels, reference -> moving image, of most mutual information.

    Whole pixels are tried, as interpolation changes the information; a parabola along each axis
    gives fractions.  NaN if the best shift is at the end of the search.

    Args:
      reference, moving: uint8 (H, W, 3).
    """
    fixed, other = (
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.int64) * _BINS // 256
        for image in (reference, moving)
    )
    height, width = fixed.shape
    inner = fixed[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    side = 2 * _RADIUS + 1
    information = np.zeros((side, side))
    for y in range(side):
        for x in range(side):
            shifted = other[y : height - side + 1 + y, x : width - side + 1 + x]
            counts = np.bincount((inner * _BINS + shifted).ravel(), minlength=_BINS**2)
            joint = counts.reshape(_BINS, _BINS) / inner.size
            apart = joint.sum(1)[:, None] * joint.sum(0)
            some = joint > 0
            information[y, x] = (joint[some] * np.log(joint[some] / apart[some])).sum()
    y, x = divmod(int(information.argmax()), side)
    if not (0 < x < side - 1 and 0 < y < side - 1):
        return np.full(2, np.nan)
    part = (_peak(information[y, x - 1 : x + 2]), _peak(information[y - 1 : y + 2, x]))
    return np.array([x, y]) - _RADIUS + part


def _peak(values: np.ndarray) -> float:
    """Returns the place of the top of a parabola through three values, from the middle one."""
    curvature = values[0] - 2 * values[1] + values[2]
    return 0.0 if curvature == 0 else float((values[0] - values[2]) / (2 * curvature))


def is_confirmed(reference: np.ndarray, moving: np.ndarray) -> bool:
    """Returns whether both estimates confirm that a stored pair is registered to half a pixel."""
    alignment = estimate_alignment(reference, moving, RESIDUAL)
    if not alignment.confident or np.hypot(*alignment.warp.matrix[:2, 2]) > _REGISTERED:
        return False
    return bool(np.hypot(*shift_by_mutual_information(reference, moving)) <= _REGISTERED)


def registered_pairs(
    first: Path, second: Path, simulate: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields name and images of the pairs that count.

    Raises:
      UserError: a pair's images differ in size, or labels are none of streets.
    """
    names = [synonyms[0] for synonyms in STREET_CLASSES]
    for number, (path, other) in enumerate(find_pairs(first, second)):
        reference, moving = read_image(path), read_image(other, value_range="full")
        if reference.shape != moving.shape:
            raise UserError(f"{other}: is not of the size of {path}")
        if simulate:
            check_labels(moving[..., 0], STREET_CLASSES)
            random = np.random.default_rng(number)
            moving = simulated_infrared(reference, moving[..., 0], names, random)
        elif not is_confirmed(reference, moving):
            continue
        yield path.stem, reference, moving


def losses(
    results: tuple[DegradedResults, DegradedResults], strength: float, method: str
) -> dict[str, tuple[float, float]]:
    """Returns metric -> what a method loses without and with the alignment, mean over the pairs.

    Args:
      results: without and with the alignment.
      strength: of the shift.
      method: whose fused images.
    """
    return {
        metric: tuple(  # pyright: ignore[reportReturnType]
            # Unshifted sources without alignment are the reference of both.
            results[0].mean(CLEAN, metric, method) - one.mean(("shifted", strength), metric, method)
            for one in results
        )
        for metric in METRICS_AGAINST["sources"]
    }


def measure(args: argparse.Namespace) -> None:
    """Prints the pairs that count, and what each method loses on them.

    Raises:
      UserError: a folder, a pair or the model cannot be used, or no pair counts.
    """
    check_at_least("--count", args.count, 1)
    if not 0 < args.shift <= MAX_SHIFT:
        raise UserError(f"--shift must be above 0 and at most {MAX_SHIFT:g}, not {args.shift:g}")
    strength = args.shift / MAX_SHIFT
    one = EvaluationSet(_NAME, "Pairs", _FOLDERS, "ivif", task=args.task)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in _FOLDERS:
            (root / name).mkdir()
        used = 0
        for stem, *images in registered_pairs(args.first, args.second, args.simulate):
            for name, image in zip(_FOLDERS, images, strict=True):
                write_image(root / name / f"{stem}.png", image)
            used += 1
            if used == args.count:
                break
        if not used:
            raise UserError("none of the pairs is registered to half a pixel")
        suite = Suite(
            "Shifted sources",
            root,
            (one,),
            (Condition("shifted", (strength,), "infrared"),),
            "sources",
        )
        without, aligned = (
            evaluate_degraded(
                suite,
                output=root / str(align),
                checkpoint=args.checkpoint,
                align=align,
                quiet=True,
            )
            for align in (None, RESIDUAL)
        )
    print(f"{used} pairs, shifted by {args.shift:g} px: lost without / with --align residual")
    for method in without.methods:
        row = losses((without, aligned), strength, method)
        cells = (f"{name} {plain:.3f} / {saved:.3f}" for name, (plain, saved) in row.items())
        print(f"{method}: {', '.join(cells)}", flush=True)


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first", type=Path, help="reference images, or photographs")
    parser.add_argument("second", type=Path, help="images to shift, or labels")
    parser.add_argument("--simulate", action="store_true", help="infrared from photographs")
    parser.add_argument("--task", default="ivif", help="standard task of the model's prompt")
    parser.add_argument("--shift", type=float, default=3.0, help="pixels")
    parser.add_argument("--count", type=int, default=10, help="pairs at most")
    parser.add_argument("--checkpoint", type=model_path, help="also a model, e.g. small")
    args = parser.parse_args()
    try:
        measure(args)
    except UserError as error:
        parser.exit(exit_code(error), f"{error}\n")


if __name__ == "__main__":
    main()
