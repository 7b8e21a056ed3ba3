"""What is known of a public data set: where it comes from, how its archives arrange the files."""

import dataclasses
import re
from collections.abc import Callable, Mapping

from ditfuse_jax.pipeline.datasets.masks import Color

LABEL = "label"  # the role whose images hold class numbers


@dataclasses.dataclass(frozen=True)
class Split:
    """A part of a data set.

    Attributes:
      count: how many examples it has, None where no number is published or copies differ.
      folders: what archives call its folder; by default its own name.
    """

    count: int | None = None
    folders: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way in which archives arrange the files.

    A pattern describes a path below the data's folder, without suffix; case does not matter.
    `{split}` stands for a folder of the split.  Files are partners where these agree: `{key}`, part
    of a name; `{number}`, a whole run of digits; `{scene}`, one or more folders.  `*` stands for
    any part of a name and `(a|b)` for either.  Of several files that differ in `{first}` or
    `{last}` alone, the first or last in natural order is taken.

    Attributes:
      patterns: role -> pattern.  A layout without `{split}` holds the one split that is asked for,
        unless `split_of` tells.
      split_of: name of an example -> name of its split, for archives that have no folders of them.
      label_colors: class numbers of colours, for labels that are drawn in them.
    """

    patterns: Mapping[str, str]
    split_of: Callable[[str], str] | None = None
    label_colors: Mapping[Color, int] | None = None

    @property
    def tells_split(self) -> bool:
        return self.split_of is not None or any("{split}" in p for p in self.patterns.values())


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A public data set.

    Attributes:
      name: as it is named in sources.
      title: as its authors name it.
      task: what it serves for.
      homepage: where it is described and found.
      citation: the publication to cite.
      licence: what is known of the terms, in our words.
      download: how to get it, in a line or two.
      splits: by name; the first is the usual one.
      inputs: the roles that every example has, in the order in which a task takes them.
      layouts: tried in order.
      extras: roles that an example may have besides.  `label` holds class numbers.
      version: of the recipe; a change of what it yields changes it.
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
    """Returns a pattern as a regular expression of whole paths without suffix.

    The group `root` is the folder that holds the layout; all other groups are shared by partners.
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
