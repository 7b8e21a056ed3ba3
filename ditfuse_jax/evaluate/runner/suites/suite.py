"""What a suite is: folders, and what is computed on them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvaluationSet:
    """One set of scenes with, where there are any, published fused images of them.

    Attributes:
      name: of its folder of reports.
      title: in tables.
      sources: folders of source images of equal names, below the suite's root.
      reports: whose metrics are computed: a key of `reported.TASK_METRICS`.
      published: a folder below the root with a folder of fused images per method.
      task: whose standard prompt a model gets: a key of `sample.standard_prompts.STANDARD_TASKS`.
      suffix: of the files a model's images are saved in.
      note: what a reader of its table should know.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    reports: str
    published: str | None = None
    task: str = "fuse"
    suffix: str = ".png"
    note: str = ""


@dataclass(frozen=True)
class Suite:
    """Sets that are reported together.

    Attributes:
      title: of the overview.
      root: where the data is unless one says otherwise.
      sets: in the order of the overview.
    """

    title: str
    root: Path
    sets: tuple[EvaluationSet, ...]
