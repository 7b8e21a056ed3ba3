"""Reads data sets prepared by tensorflow-datasets, without TensorFlow."""

import functools
from typing import Any, SupportsIndex

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import check_same_size, decode_image, decode_labels
from ditfuse_jax.paths import is_remote
from ditfuse_jax.pipeline.datasets import DATASETS, LABEL, Selection, parse_selection
from ditfuse_jax.pipeline.lazy_sequence import LazySequence
from ditfuse_jax.resources import resource


class TfdsSource:
    """Random access to the examples of a prepared data set; see `Source`.

    Records are read from ArrayRecord files, like `tfds.data_source` does; `data/tfds_builders.py`
    defines their content.
    """

    def __init__(self, argument: str):
        """Opens a data set.

        Args:
          argument: a `Selection` as text; its place is tensorflow-datasets' `data_dir`.

        Raises:
          UserError: tensorflow-datasets is not installed, or the data set is not prepared.
        """
        self.selection = parse_selection(argument, DATASETS)
        self.records = _open(self.selection)
        self.names = LazySequence(len(self.records), self.name)
        self.num_images = len(self.selection.roles)
        self.labels = self.selection.labels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, ...]:
        record = self.record(index)
        name, roles = record["name"].decode(), self.selection.roles
        where = [f"{self.selection.dataset.name} {name} {role}" for role in roles]
        images = []
        for role, place in zip(roles, where, strict=True):
            data = record["images"][role]
            if not data:
                raise UserError(f"{place}: missing in the prepared data set")
            images.append((decode_labels if role == LABEL else decode_image)(data, place))
        check_same_size(images, where)
        return tuple(images)

    def size(self, index: SupportsIndex) -> tuple[int, int]:
        height, width = self.record(index)["size"]
        return int(height), int(width)

    def name(self, index: SupportsIndex) -> str:
        return self.record(index)["name"].decode()

    def record(self, index: SupportsIndex) -> dict[str, Any]:
        """Returns a prepared example: `name`, `images` (role -> encoded file) and `size`."""
        number = index.__index__()
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        return self.records[number]


def _open(selection: Selection) -> Any:
    if is_remote(selection.place):
        raise UserError(
            f"{selection.place}: sources tfds:... read local disks only: copy the prepared data "
            "set, or pack it into the object store (ditfuse prepare)"
        )
    tfds = _tfds()
    name = selection.dataset.name + ("/partial" if selection.partial else "")
    place = str(selection.place) if selection.place else None
    builders = resource("data", "tfds_builders.py")
    advice = f"prepare it: python {builders} {selection.dataset.name} MANUAL_DIR"
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=place)
    except tfds.core.registered.DatasetNotFoundError as error:
        where = place or "tensorflow-datasets' folder"
        raise UserError(f"no data set {name} is prepared in {where}; {advice}") from error
    if selection.split not in builder.info.splits:
        known = ", ".join(builder.info.splits)
        raise UserError(f"{builder.data_path}: holds {known}, no {selection.split}; {advice}")
    try:
        return builder.as_data_source(split=selection.split)
    except NotImplementedError as error:
        raise UserError(
            f"{builder.data_path}: was not prepared with file_format=array_record; {advice}"
        ) from error


@functools.cache
def _tfds() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"sources tfds:... need tensorflow-datasets ({error}): pip install "
            "'ditfuse-jax[datasets]', or read the files themselves with dataset:NAME@PLACE"
        ) from error
    return tfds
