"""Real-MFF: pairs of two focuses from light fields, with the sharp image."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split

REAL_MFF = Dataset(
    name="real_mff",
    title="Real-MFF",
    task="multi-focus fusion",
    homepage="https://github.com/Zancelot/Real-MFF",
    citation="Zhang, Liao, Liu, Ma, Yang, Xue: Real-MFF: A large realistic multi-focus image "
    "dataset with ground truth. Pattern Recognition Letters 138, 2020",
    licence="its repository is under MIT",
    download="the archive by the links on https://github.com/Zancelot/Real-MFF",
    splits={"full": Split(710)},
    inputs=("a", "b"),
    extras=("sharp",),
    layouts=(
        Layout({"a": "imageA/{key}_a", "b": "imageB/{key}_b", "sharp": "fusion/{key}_f"}),
        Layout({"a": "imageA/{key}", "b": "imageB/{key}", "sharp": "fusion/{key}"}),
    ),
)
