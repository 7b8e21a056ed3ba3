"""tensorflow-datasets builders of the public data sets, made from their descriptions.

    python data/tfds_builders.py msrs /downloads/MSRS [--data-dir DIR] [--partial]

prepares one without TensorFlow.  `tfds build`, which needs TensorFlow, prepares the same:

    tfds build --imports ditfuse_jax.data.tfds_builders --manual_dir /downloads/MSRS msrs

Train on it with `--config.data.mixture.roads.source=tfds:msrs`.  A record holds unchanged files:
`name`; `images`, an encoded file per role, empty for a missing extra; `size`, (height, width).
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import check_same_size, decode_image, decode_labels
from ditfuse_jax.pipeline.datasets import DATASETS, LABEL, Dataset, Example, find_examples

_PARTIAL = "partial"
_logger = logging.getLogger(__name__)


class RecipeBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Prepares `dataset`; with the configuration `partial` only its complete examples."""

    dataset: ClassVar[Dataset]

    def __init__(self, *, file_format: str | None = None, **options: Any):
        """Like any builder, with ArrayRecord as the default, which is read without TensorFlow."""
        super().__init__(file_format=file_format or "array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        dataset = self.dataset
        file = tfds.features.Scalar(np.object_)  # bytes, stored as they are
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{dataset.title}: {dataset.task}.  Licence: {dataset.licence}.",
            features=tfds.features.FeaturesDict(
                {
                    "name": tfds.features.Text(),
                    "images": tfds.features.FeaturesDict(dict.fromkeys(dataset.roles, file)),
                    "size": tfds.features.Tensor(shape=(2,), dtype=np.int32),
                }
            ),
            homepage=dataset.homepage,
            citation=dataset.citation,
            disable_shuffling=True,  # training shuffles; here the order is that of the files
        )

    @property
    def _partial(self) -> bool:
        return self.builder_config is not None and self.builder_config.name == _PARTIAL

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        place = Path(dl_manager.manual_dir)
        if (place / self.dataset.name).is_dir():  # one manual folder for all data sets
            place /= self.dataset.name
        found, problems = {}, []
        for split in self.dataset.splits:
            try:
                found[split] = find_examples(self.dataset, place, split, partial=self._partial)
            except UserError as error:
                problems.append(error)
        if problems and not (found and self._partial):
            raise problems[0]
        for problem in problems:
            _logger.warning("%s", problem)
        return {split: self._generate_examples(examples) for split, examples in found.items()}

    def _generate_examples(self, examples: list[Example]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, example in enumerate(examples):
            try:
                yield number, self._record(example)
            except UserError as error:
                if not self._partial:
                    raise
                _logger.warning("left out %s: %s", example.name, error)

    def _record(self, example: Example) -> dict[str, Any]:
        """Reads an example, and decodes it once as a check."""
        files = {role: path.read_bytes() for role, path in example.files.items()}
        images = [
            (decode_labels if role == LABEL else decode_image)(data, str(example.files[role]))
            for role, data in files.items()
        ]
        check_same_size(images, list(example.files.values()))
        return {
            "name": example.name,
            "images": {role: files.get(role, b"") for role in self.dataset.roles},
            "size": np.array(images[0].shape[:2], np.int32),
        }


def _builder(dataset: Dataset) -> type[RecipeBuilder]:
    fields = {
        "__module__": __name__,
        "__doc__": dataset.title,
        "name": dataset.name,
        "dataset": dataset,
        "VERSION": tfds.core.Version(dataset.version),
        "MANUAL_DOWNLOAD_INSTRUCTIONS": f"{dataset.download}.  It may stay as it was downloaded, "
        f"in the manual directory or a folder {dataset.name} of it.",
    }
    return type(dataset.name.title().replace("_", ""), (RecipeBuilder,), fields)


BUILDERS = {name: _builder(dataset) for name, dataset in DATASETS.items()}


def prepare(
    name: str, manual_dir: Path, data_dir: Path | None = None, *, partial: bool = False
) -> tfds.core.DatasetBuilder:
    """Prepares a data set as ArrayRecord files, unless it is prepared already.

    Args:
      name: in `DATASETS`.
      manual_dir: the folder with the downloaded files.
      data_dir: tensorflow-datasets' folder, None for its default.
      partial: use only the complete examples.

    Raises:
      UserError: the data set is unknown, incomplete or damaged.
    """
    if name not in BUILDERS:
        raise UserError(f"data set {name!r} is unknown; choose from {', '.join(BUILDERS)}")
    manual_dir = manual_dir.expanduser()
    if not manual_dir.is_dir():
        raise UserError(f"{manual_dir}: no such folder; to get it: {DATASETS[name].download}")
    config = tfds.core.BuilderConfig(name=_PARTIAL) if partial else None
    builder = BUILDERS[name](data_dir=data_dir, config=config)
    downloads = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=downloads)
    return builder


def main() -> None:
    parser = argparse.ArgumentParser(description="prepare a data set for tfds:NAME")
    parser.add_argument("name", help=", ".join(DATASETS))
    parser.add_argument("manual_dir", type=Path, help="folder with what was downloaded")
    parser.add_argument("--data-dir", type=Path, help="of tensorflow-datasets")
    parser.add_argument("--partial", action="store_true", help="take what is there")
    args = parser.parse_args()
    try:
        builder = prepare(args.name, args.manual_dir, args.data_dir, partial=args.partial)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    counts = ", ".join(
        f"{split} {info.num_examples}" for split, info in builder.info.splits.items()
    )
    print(f"{counts} examples: {builder.data_path}")


if __name__ == "__main__":
    main()
