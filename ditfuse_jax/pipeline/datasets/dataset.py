"""Descriptions of public data sets: origin, splits, and the layout of their files."""

import dataclasses
import re
from collections.abc import Callable, Mapping

from ditfuse_jax.pipeline.datasets.masks import Color

LABEL = "label"  # the role whose images hold class numbers


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of a data set.

    Attributes:
      count: number of examples; None if no number is published or copies differ.
      folders: names of its folder in archives; by default the split's name.
    """

    count: int | None = None
    folders: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Layout:
    """One arrangement of a data set's files.

    A pattern describes a path below the data's folder, without suffix; case is ignored.  `{split}`
    matches a folder of the split.  Files belong to one example if they agree in `{key}` (part of a
    name), `{number}` (a whole run of digits) and `{scene}` (one or more folders).  `*` matches any
    part of a name, `(a|b)` either alternative.  Of files that differ only in `{first}` or `{last}`,
    the first or last in natural order is used.

    Attributes:
      patterns: role -> pattern.  Without `{split}` and `split_of` the folder is taken to hold the
        requested split.
      split_of: name of an example -> name of its split, for archives without folders for splits.
      label_colors: colour -> class number, for labels stored as colours.
    """

    patterns: Mapping[str, str]
    split_of: Callable[[str], str] | None = None
    label_colors: Mapping[Color, int] | None = None

    @property
    def separates_splits(self) -> bool:
        return self.split_of is not None or any("{split}" in p for p in self.patterns.values())


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A public data set.

    Attributes:
      name: its name in sources.
      title: its authors' name for it.
      task: what it is used for.
      homepage: URL.
      citation: the publication to cite.
      licence: a summary of the terms that were found.
      download: instructions in one or two lines.
      splits: by name; the first is the default.
      inputs: roles that every example has, in the order of a task's images.
      layouts: tried in order.
      extras: optional roles.  `label` holds class numbers.
      version: of this description; it changes when the examples change.
    """

    name: str
    title: str
    task: str
    homepage: str
    citation: str
    licence: str
    download: str
    splits: Mapping[str, Split]
    inputs: tuple[str, ...]
    layouts: tuple[Layout, ...]
    extras: tuple[str, ...] = ()
    version: str = "1.0.0"

    @property
    def roles(self) -> tuple[str, ...]:
        return self.inputs + self.extras

    def folders_of(self, split: str) -> tuple[str, ...]:
        return self.splits[split].folders or (split,)


def compiled(pattern: str, folders: tuple[str, ...]) -> re.Pattern[str]:
    """Compiles a pattern to a regular expression for whole paths without suffix.

    The group `root` is the folder that holds the layout; the files of an example agree in all other
    groups.
    """
    meanings = {
        "{split}": f"(?:{'|'.join(map(re.escape, folders))})",
        "{key}": r"(?P<key>[^/]+)",
        "{number}": r"(?<!\d)(?P<number>\d+)(?!\d)",
        "{scene}": r"(?P<scene>.+)",
        "{first}": "[^/]+",
        "{last}": "[^/]+",
        "*": "[^/]*",
        "(": "(?:",
        ")": ")",
        "|": "|",
    }
    parts = re.split(r"(\{[a-z]+\}|[*()|])", pattern)
    expression = "".join(meanings[part] if part in meanings else re.escape(part) for part in parts)
    root = "(?P<root>)" if "{scene}" in pattern else "(?:(?P<root>.+)/)?"
    return re.compile(root + expression, re.IGNORECASE)
