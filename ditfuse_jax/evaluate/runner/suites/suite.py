"""What a suite is: data sets with their folders, metrics and prompts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class EvaluationSet:
    """A set of scenes, optionally with published fused images of them.

    Attributes:
      name: of the folder of its report.
      title: in tables.
      sources: folders of source images with equal names, below the suite's root.
      metrics_of: a key of `TASK_METRICS`: whose metrics are computed.
      published: a folder below the root with a folder of fused images per method.
      task: a key of `sample.standard_prompts.STANDARD_TASKS`: whose standard prompt a model gets.
      suffix: of the files of a model's fused images.
      note: shown with the table.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    metrics_of: str
    published: str | None = None
    task: str = "fuse"
    suffix: str = ".png"
    note: str = ""


@dataclass(frozen=True)
class Condition:
    """A degradation of the sources under which fusion is compared with that of clean sources.

    Attributes:
      defect: a key of `degrade.defects.IMAGE_DEFECTS`.
      strengths: of the defect, from 0 to 1.
      sources: which sources have it: "all", "visible" (the first one of a set that joins a visible
        and an infrared camera, else all), or "infrared" (the second one of such a set, else all).
    """

    defect: str
    strengths: tuple[float, ...]
    sources: Literal["all", "visible", "infrared"] = "all"


@dataclass(frozen=True)
class Suite:
    """Data sets that are evaluated together.

    Attributes:
      title: of the overview.
      root: the default folder of the data.
      sets: in the order of the overview.
      conditions: if there are any, degraded sources are fused too.
      against: what fused images of degraded sources are compared with: each method's own fusion of
        the clean sources, or the clean sources, as the fusion of these is too.
    """

    title: str
    root: Path
    sets: tuple[EvaluationSet, ...]
    conditions: tuple[Condition, ...] = ()
    against: Literal["fusion", "sources"] = "fusion"
