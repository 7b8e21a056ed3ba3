"""Lytro: pairs of two focuses from a light-field camera."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import A_B_FOLDERS

LYTRO = Dataset(
    name="lytro",
    title="Lytro Multi-focus Dataset",
    task="multi-focus fusion, evaluation",
    homepage="https://mansournejati.ece.iut.ac.ir/content/lytro-multi-focus-dataset",
    citation="Nejati, Samavi, Shirani: Multi-focus image fusion using dictionary-based sparse "
    "representation. Information Fusion 25, 2015",
    licence="none found",
    download="the archive on https://mansournejati.ece.iut.ac.ir/content/lytro-multi-focus-dataset",
    splits={"test": Split(20)},
    inputs=("a", "b"),
    layouts=(
        Layout({"a": "lytro-{number}-a", "b": "lytro-{number}-b"}),
        Layout({"a": "*a/lytro-{number}-a", "b": "*b/lytro-{number}-b"}),
        A_B_FOLDERS,
    ),
)
