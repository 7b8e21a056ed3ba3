"""Measures the alignment on registered pairs: known warps, and images that do not belong together.

  python -m ditfuse_jax.bench.align DIR1 DIR2 --trials 100 --seed 1

DIR1 and DIR2 hold images of equal names (the stem counts).  Each trial moves the second image by a
random similarity (shift up to 5 % of each side, rotation up to 3 degrees, scale up to 10 %) and,
with `--corners 0.03`, each corner by up to 3 % of each side as well, as a homography does.  Both
are cut to the largest centred rectangle without empty pixels, and aligned.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.align import Alignment, estimate_alignment
from ditfuse_jax.align.geometry import (
    corner_distance,
    corners,
    similarity_about,
    transform,
    translation,
)
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import list_images, read_image

_SHIFT, _DEGREES, _SCALE = 0.05, 3.0, 1.1


@dataclasses.dataclass(frozen=True)
class Trial:
    """One alignment with its errors.

    Attributes:
      name: the pair's.
      alignment: of the moved pair.
      error: corner distance in pixels to the known warp, if the pair is registered perfectly.
      consistency: the same, after what the alignment finds between the unmoved images; None if
        that is not sure.
      unrelated: alignment with the mirrored image of another pair; None if it was not tried.
      seconds: CPU time of an alignment.
    """

    name: str
    alignment: Alignment
    error: float
    consistency: float | None
    unrelated: Alignment | None
    seconds: float


def random_warp(
    height: int, width: int, random: np.random.Generator, corner_share: float = 0.0
) -> np.ndarray:
    """Returns a warp, pixels of the moved image -> pixels of the image.

    It is a similarity, after a homography if `corner_share`, of each side, is above 0: by so much
    that moves each corner at most.
    """
    shift = random.uniform(-_SHIFT, _SHIFT, 2) * (width, height)
    degrees = random.uniform(-_DEGREES, _DEGREES)
    scale = float(np.exp(random.uniform(-np.log(_SCALE), np.log(_SCALE))))
    centre = ((width - 1) / 2, (height - 1) / 2)
    similarity = similarity_about(centre, scale, degrees, (shift[0], shift[1]))
    if corner_share == 0:
        return similarity
    points = corners(height, width)
    moved = points + random.uniform(-corner_share, corner_share, (4, 2)) * (width, height)
    bent = cv2.getPerspectiveTransform(points.astype(np.float32), moved.astype(np.float32))
    return similarity @ bent


def move(
    reference: np.ndarray, moving: np.ndarray, warp: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Moves an image and cuts both where it has pixels.

    Returns:
      The cut images, the true warp between them, and the cut's offset as a matrix.
    """
    height, width = reference.shape[:2]
    limit = np.array([width - 1, height - 1])
    for share in np.linspace(1, 0.3, 141):
        size = (int(height * share), int(width * share))
        offset = translation((width - size[1]) // 2, (height - size[0]) // 2)
        placed = transform(warp @ offset, corners(*size))
        if ((placed >= 0) & (placed <= limit)).all():
            break
    to_source = warp @ offset
    moved = cv2.warpPerspective(
        moving,
        to_source,
        size[::-1],
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    y, x = int(offset[1, 2]), int(offset[0, 2])
    cut = np.ascontiguousarray(reference[y : y + size[0], x : x + size[1]])
    truth = np.linalg.inv(to_source) @ offset
    return cut, moved, truth / truth[2, 2], offset


def run_trials(
    pairs: Sequence[tuple[Path, Path]],
    count: int,
    seed: int,
    unrelated: int,
    corner_share: float = 0.0,
) -> Iterator[Trial]:
    """Yields the trials; each pair is used in turn, in random order.

    So many of the first trials, `unrelated`, also have an image of another pair.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(pairs))
    unmoved: dict[int, Alignment] = {}
    for number in range(count):
        index = int(order[number % len(pairs)])
        reference, moving = (read_image(path) for path in pairs[index])
        if reference.shape != moving.shape:
            raise UserError(f"{pairs[index][1]}: is not of the size of {pairs[index][0]}")
        if index not in unmoved:
            unmoved[index] = estimate_alignment(reference, moving)
        height, width = reference.shape[:2]
        warp = random_warp(height, width, random, corner_share)
        cut, moved, truth, offset = move(reference, moving, warp)
        size = cut.shape[:2]
        started = time.process_time()
        alignment = estimate_alignment(cut, moved)
        seconds = time.process_time() - started
        consistency = None
        if unmoved[index].confident:
            before = np.linalg.inv(offset) @ unmoved[index].warp.matrix @ offset
            consistency = corner_distance(alignment.warp.matrix, truth @ before, *size)
        stranger = None
        if number < unrelated:
            other = read_image(pairs[(index + len(pairs) // 2) % len(pairs)][1])[:, ::-1]
            other = cv2.resize(np.ascontiguousarray(other), size[::-1])
            stranger = estimate_alignment(cut, other)
        yield Trial(
            pairs[index][0].stem,
            alignment,
            corner_distance(alignment.warp.matrix, truth, *size),
            consistency,
            stranger,
            seconds,
        )


def find_pairs(first: Path, second: Path) -> list[tuple[Path, Path]]:
    """Returns the images of equal stems.

    Raises:
      UserError: there are fewer than two.
    """
    others = {path.stem: path for path in list_images(second)}
    pairs = [(path, others[path.stem]) for path in list_images(first) if path.stem in others]
    if len(pairs) < 2:
        raise UserError(f"{first} and {second} hold fewer than two images of equal names")
    return pairs


def summary(trials: Sequence[Trial]) -> dict[str, float]:
    """Returns the counts and medians of a table, by name."""
    accepted = [trial for trial in trials if trial.alignment.confident]
    unrelated = [trial.unrelated.confident for trial in trials if trial.unrelated is not None]
    rows: dict[str, float] = {
        "trials": len(trials),
        "accepted": len(accepted),
        "unrelated pairs": len(unrelated),
        "unrelated accepted": sum(unrelated),
        "CPU seconds, mean": float(np.mean([t.seconds for t in trials])),
    }
    measures = {
        "to the stored registration": [(t, t.error) for t in trials],
        "to its own registration": [
            (t, t.consistency) for t in trials if t.consistency is not None
        ],
    }
    for name, values in measures.items():
        errors = np.array([error for _, error in values])
        sure = np.array([trial.alignment.confident for trial, _ in values], bool)
        if not len(errors):
            continue
        rows[f"{name}: trials"] = len(errors)
        rows[f"{name}: median px"] = float(np.median(errors))
        rows[f"{name}: 90 % below px"] = float(np.quantile(errors, 0.9))
        rows[f"{name}: at most 2 px"] = int((errors <= 2).sum())
        rows[f"{name}: accepted"] = int(sure.sum())
        rows[f"{name}: accepted and at most 2 px"] = int((errors[sure] <= 2).sum())
        rows[f"{name}: accepted and above 5 px"] = int(((errors > 5) & sure).sum())
    return rows


def main() -> None:
    """Runs the trials of the command line and prints them and their summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first", type=Path, help="reference images")
    parser.add_argument("second", type=Path, help="images to move")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unrelated", type=int, help="of the trials, those with another pair too")
    parser.add_argument("--corners", type=float, default=0.0, help="homographies: share of a side")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    trials = []
    unrelated = args.trials if args.unrelated is None else args.unrelated
    pairs = find_pairs(args.first, args.second)
    for trial in run_trials(pairs, args.trials, args.seed, unrelated, args.corners):
        trials.append(trial)
        other = trial.unrelated
        stranger = "" if other is None else f"; unrelated {other.confidence:.2f}"
        consistency = "-" if trial.consistency is None else f"{trial.consistency:.2f}"
        print(
            f"{trial.name}: error {trial.error:.2f} px, to its own registration {consistency}; "
            f"{trial.alignment}{stranger}",
            flush=True,
        )
    for name, value in summary(trials).items():
        print(f"{name:45} {value:.3g}")


if __name__ == "__main__":
    main()
