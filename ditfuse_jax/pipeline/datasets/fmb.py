"""FMB: infrared and visible city scenes at all times of day, with labels."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import INFRARED, VISIBLE

FMB = Dataset(
    name="fmb",
    title="FMB (Full-time Multi-modality Benchmark)",
    task="infrared-visible fusion, segmentation",
    homepage="https://github.com/JinyuanLiu-CV/SegMiF",
    citation="Liu, Liu, Wu, Ma, Liu, Zhong, Luo, Fan: Multi-interactive Feature Learning and a "
    "Full-time Multi-modality Benchmark for Image Fusion and Segmentation. ICCV 2023",
    licence="none found",
    download="the archives of both splits by the links on https://github.com/JinyuanLiu-CV/SegMiF",
    splits={"train": Split(1220, ("train", "FMB_train")), "test": Split(280, ("test", "FMB_test"))},
    inputs=("visible", "infrared"),
    extras=("label",),
    layouts=(
        Layout(
            {
                "visible": f"{{split}}/{VISIBLE}/{{key}}",
                "infrared": f"{{split}}/{INFRARED}/{{key}}",
                "label": "{split}/(label|labels)/{key}",
            }
        ),
        Layout(
            {
                "visible": f"{VISIBLE}/{{key}}",
                "infrared": f"{INFRARED}/{{key}}",
                "label": "(label|labels)/{key}",
            }
        ),
    ),
)
