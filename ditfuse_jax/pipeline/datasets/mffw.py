"""MFFW: pairs of two focuses found on the web, whose blur spreads over edges."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import A_B_FILES, A_B_FOLDERS

MFFW = Dataset(
    name="mffw",
    title="MFFW (Multi-Focus in the Wild)",
    task="multi-focus fusion, evaluation",
    homepage="https://arxiv.org/abs/2002.04780",
    citation="Xu, Wei, Zhang, Liu, Zhang: MFFW: A new dataset for multi-focus image fusion. "
    "arXiv 2002.04780, 2020",
    licence="none found; the images were collected on the web",
    download="ask its authors (https://arxiv.org/abs/2002.04780) or take a copy; of the two parts "
    "MFFW2 holds the pairs",
    # Copies hold 13 to 19 scenes, with or without those of three focuses.
    splits={"test": Split()},
    inputs=("a", "b"),
    layouts=(
        Layout({"a": "MFFW2/{key}(-|_)a", "b": "MFFW2/{key}(-|_)b"}),
        A_B_FOLDERS,
        A_B_FILES,
    ),
)
