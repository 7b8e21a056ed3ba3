"""SICE: series of exposures, each with the best of many fused images."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split

SICE = Dataset(
    name="sice",
    title="SICE (Single Image Contrast Enhancer)",
    task="multi-exposure fusion",
    homepage="https://github.com/csjcai/SICE",
    citation="Cai, Gu, Zhang: Learning a Deep Single Image Contrast Enhancer from Multi-Exposure "
    "Images. IEEE Transactions on Image Processing 27(4), 2018",
    licence="none found in its repository",
    download="Dataset_Part1.rar and Dataset_Part2.rar by the links on "
    "https://github.com/csjcai/SICE; unpack them",
    splits={
        "part1": Split(360, ("Dataset_Part1", "Part1", "SICE_Dataset_Part1")),
        "part2": Split(229, ("Dataset_Part2", "Part2", "SICE_Dataset_Part2")),
    },
    # A series counts from dark to bright; its ends are taken.
    inputs=("under", "over"),
    extras=("reference",),
    layouts=(
        Layout(
            {
                "under": "{split}/{number}/{first}",
                "over": "{split}/{number}/{last}",
                "reference": "{split}/label/{number}",
            }
        ),
    ),
)
