"""M3FD: infrared and visible scenes of campus, street and forest in all weathers."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import INFRARED, VISIBLE, VISIBLE_INFRARED

M3FD = Dataset(
    name="m3fd",
    title="M3FD (Multi-scenario Multi-Modality)",
    task="infrared-visible fusion",
    homepage="https://github.com/JinyuanLiu-CV/TarDAL",
    citation="Liu et al.: Target-aware Dual Adversarial Learning and a Multi-scenario "
    "Multi-Modality Benchmark to Fuse Infrared and Visible for Object Detection. CVPR 2022",
    licence="none found",
    download="M3FD_Detection.zip and M3FD_Fusion.zip by the links on "
    "https://github.com/JinyuanLiu-CV/TarDAL",
    splits={
        "detection": Split(4200, ("M3FD_Detection",)),
        "fusion": Split(300, ("M3FD_Fusion",)),
    },
    inputs=("visible", "infrared"),
    layouts=(
        Layout(
            {
                "visible": f"{{split}}/{VISIBLE}/{{key}}",
                "infrared": f"{{split}}/{INFRARED}/{{key}}",
            }
        ),
        VISIBLE_INFRARED,
    ),
)
