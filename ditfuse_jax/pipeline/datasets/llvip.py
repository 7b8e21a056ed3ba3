"""LLVIP: infrared and visible street scenes in the dark."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import INFRARED, VISIBLE, VISIBLE_INFRARED

LLVIP = Dataset(
    name="llvip",
    title="LLVIP (Visible-infrared Paired Dataset for Low-light Vision)",
    task="infrared-visible fusion",
    homepage="https://bupt-ai-cz.github.io/LLVIP/",
    citation="Jia, Zhu, Li, Tang, Liu, Zhou: LLVIP: A Visible-infrared Paired Dataset for "
    "Low-light Vision. arXiv 2108.10831, 2021",
    licence="research and other non-commercial use, with citation",
    download="LLVIP.zip (registered pairs) by the links on https://github.com/bupt-ai-cz/LLVIP",
    splits={"train": Split(12025), "test": Split(3463)},
    inputs=("visible", "infrared"),
    layouts=(
        Layout(
            {
                "visible": f"{VISIBLE}/{{split}}/{{key}}",
                "infrared": f"{INFRARED}/{{split}}/{{key}}",
            }
        ),
        Layout(
            {
                "visible": f"{{split}}/{VISIBLE}/{{key}}",
                "infrared": f"{{split}}/{INFRARED}/{{key}}",
            }
        ),
        VISIBLE_INFRARED,
    ),
)
