"""MFI-WHU: pairs of two focuses made from sharp photographs, which come with them."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import A_B_FILES

MFI_WHU = Dataset(
    name="mfi_whu",
    title="MFI-WHU",
    task="multi-focus fusion",
    homepage="https://github.com/HaoZhang1018/MFI-WHU",
    citation="Zhang, Le, Shao, Xu, Ma: MFF-GAN: An unsupervised generative adversarial network "
    "with adaptive and gradient joint constraints for multi-focus image fusion. "
    "Information Fusion, 2021",
    licence="none found in its repository; the sharp photographs come from other public sets",
    download="MFI-WHU.zip in https://github.com/HaoZhang1018/MFI-WHU",
    splits={"test": Split(120)},
    inputs=("a", "b"),
    extras=("sharp",),
    layouts=(
        Layout(
            {
                "a": "(a|sourceA|source_1|source1)/{key}",
                "b": "(b|sourceB|source_2|source2)/{key}",
                "sharp": "(full_clear|full-clear|full clear)/{key}",
            }
        ),
        A_B_FILES,
    ),
)
