"""MEFB: pairs of exposures of a hundred scenes."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import A_B_FOLDERS

MEFB = Dataset(
    name="mefb",
    title="MEFB",
    task="multi-exposure fusion, evaluation",
    homepage="https://github.com/xingchenzhang/MEFB",
    citation="Zhang: Benchmarking and comparing multi-exposure image fusion algorithms. "
    "Information Fusion 74, 2021",
    licence="none found in its repository; the images come from many sources",
    download="clone or download https://github.com/xingchenzhang/MEFB",
    splits={"test": Split(100)},
    # Names do not tell which of the two is the darker one.
    inputs=("a", "b"),
    layouts=(
        Layout({"a": "input/{key}/{first}", "b": "input/{key}/{last}"}),
        Layout({"a": "under/{key}", "b": "over/{key}"}),
        A_B_FOLDERS,
    ),
)
