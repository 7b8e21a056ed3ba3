"""Results of measuring segmentation: pixel counts by class, intersection over union, a table."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.evaluate.results import mean


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Pixel counts of one class; void pixels are not counted."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0

    def __add__(self, other: "Confusion") -> "Confusion":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Confusion(*(a + b for a, b in pairs))

    @property
    def present(self) -> bool:
        """Whether any pixel belongs to the class."""
        return self.true_positives + self.false_negatives > 0

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN) in [0, 1]; NaN if the class is neither present nor predicted.

        Everingham et al., "The PASCAL Visual Object Classes challenge", IJCV 2010.
        """
        union = self.true_positives + self.false_positives + self.false_negatives
        return _ratio(self.true_positives, union)

    @property
    def false_positive_rate(self) -> float:
        """FP / (FP + TN) in [0, 1]."""
        return _ratio(self.false_positives, self.false_positives + self.true_negatives)

    @property
    def area(self) -> float:
        """The class's fraction of the pixels, in [0, 1]: the IoU of a mask of all pixels."""
        positives = self.true_positives + self.false_negatives
        return _ratio(positives, sum(dataclasses.astuple(self)))


def confusion(
    predicted: np.ndarray, labels: np.ndarray, number: int, num_classes: int
) -> Confusion:
    """Counts the pixels of one class.

    Args:
      predicted: bool `(H, W)`.
      labels: uint8 `(H, W)`, class numbers; `num_classes` and above are void.
      number: of the class.
      num_classes: of the data set.
    """
    valid = labels < num_classes
    true = labels == number
    counts = (
        predicted & true,
        predicted & ~true & valid,
        ~predicted & true,
        ~predicted & ~true & valid,
    )
    return Confusion(*(int(np.count_nonzero(where)) for where in counts))


@dataclasses.dataclass(frozen=True)
class SegmentationResults:
    """Pixel counts by image stem and class name."""

    images: dict[str, dict[str, Confusion]]

    def summary(self) -> dict[str, Any]:
        """Returns `classes` (name -> numbers) and the means `miou` and `miou_of_full_masks`.

        `iou` is over all pixels of the set, images without the class included; `iou_per_image` is
        the mean over the images with the class; `false_positive_rate` the mean over those without
        it.  `miou` and `miou_of_full_masks` are means over the classes that occur in the set.
        """
        names = list(next(iter(self.images.values())))
        classes = {name: self._class([row[name] for row in self.images.values()]) for name in names}
        present = [row for row in classes.values() if row["present"]]
        return {
            "miou": mean([row["iou"] for row in present]),
            "miou_of_full_masks": mean([row["area"] for row in present]),
            "classes": classes,
        }

    def _class(self, images: Sequence[Confusion]) -> dict[str, Any]:
        total = sum(images, Confusion())
        present = [counts for counts in images if counts.present]
        absent = [counts for counts in images if not counts.present]
        return {
            "iou": total.iou,
            "iou_per_image": mean([counts.iou for counts in present]),
            "area": total.area,
            "present": len(present),
            "absent": len(absent),
            "false_positive_rate": mean([counts.false_positive_rate for counts in absent]),
            "pixels": dataclasses.asdict(total),
        }

    def table(self) -> str:
        """Returns the summary for a terminal."""
        summary = self.summary()
        head = ("class", "IoU", "per image", "full mask", "images", "absent", "false positives")
        lines: list[tuple[str, ...]] = [head]
        for name, row in summary["classes"].items():
            texts = (format_number(row[key]) for key in ("iou", "iou_per_image", "area"))
            rate = format_number(row["false_positive_rate"])
            lines.append((name, *texts, str(row["present"]), str(row["absent"]), rate))
        means = (format_number(summary["miou"]), "", format_number(summary["miou_of_full_masks"]))
        return aligned_text([*lines, ("mean", *means, "", "", "")])


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
