"""Selections from data sets, written `NAME[:SPLIT][:ROLE,ROLE][:partial][@PLACE]`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.paths import as_path
from ditfuse_jax.pipeline.datasets.dataset import LABEL, Dataset
from ditfuse_jax.pipeline.datasets.find import find_examples

PARTIAL = "partial"


@dataclasses.dataclass(frozen=True)
class Selection:
    """A split of a data set and the roles to read, in the order of a task's images."""

    dataset: Dataset
    split: str
    roles: tuple[str, ...]
    partial: bool
    place: Path | None

    @property
    def labels(self) -> tuple[int, ...]:
        """The positions among the roles that hold class numbers."""
        return tuple(k for k, role in enumerate(self.roles) if role == LABEL)


def parse_selection(argument: str, datasets: Mapping[str, Dataset]) -> Selection:
    """Parses e.g. `msrs:test:visible,label@/data/MSRS.zip`.

    The split defaults to the data set's first, the roles to its inputs.

    Raises:
      UserError: unknown data set, split or role.
    """
    spec, _, place = argument.partition("@")
    name, *words = spec.split(":")
    if name not in datasets:
        raise UserError(f"data set {name!r} is unknown; choose from {', '.join(datasets)}")
    dataset = datasets[name]
    split, roles, partial = next(iter(dataset.splits)), dataset.inputs, False
    for word in words:
        if word in dataset.splits:
            split = word
        elif word == PARTIAL:
            partial = True
        elif set(word.split(",")) <= set(dataset.roles):
            roles = tuple(word.split(","))
        else:
            raise UserError(
                f"data set {name}: {word!r} is neither a split ({', '.join(dataset.splits)}), nor "
                f"roles ({','.join(dataset.roles)}), nor {PARTIAL!r}"
            )
    return Selection(dataset, split, roles, partial, as_path(place) if place else None)


def select_stacks(selection: Selection) -> list[tuple[str, tuple[Path, ...]]]:
    """Returns (name, files in the order of the roles) of every example.

    Raises:
      UserError: no place was given, an example lacks a role, and see `find_examples`.
    """
    dataset, roles, place = selection.dataset, selection.roles, selection.place
    if place is None:
        raise UserError(
            f"name the folder or archive: dataset:{dataset.name}@PLACE; to get it: "
            f"{dataset.download}"
        )
    examples = find_examples(dataset, place, selection.split, partial=selection.partial)
    usable = [example for example in examples if example.files.keys() >= set(roles)]
    if not usable or (len(usable) < len(examples) and not selection.partial):
        first = next(example for example in examples if example not in usable)
        lacking = ", ".join(sorted(set(roles) - first.files.keys()))
        raise UserError(
            f"{place}: {dataset.name}:{selection.split} has no {lacking} image for {first.name}"
            f" ({len(examples) - len(usable)} of {len(examples)} lack it)"
        )
    return [(example.name, tuple(example.files[role] for role in roles)) for example in usable]
