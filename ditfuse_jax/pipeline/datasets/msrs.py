"""MSRS: infrared and visible road scenes by day and night, with labels."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import INFRARED, VISIBLE

MSRS = Dataset(
    name="msrs",
    title="MSRS (Multi-Spectral Road Scenarios)",
    task="infrared-visible fusion, segmentation",
    homepage="https://github.com/Linfeng-Tang/MSRS",
    citation="Tang, Yuan, Zhang, Jiang, Ma: PIAFusion: A progressive infrared and visible image "
    "fusion network based on illumination aware. Information Fusion, 2022",
    licence="none found in its repository",
    download="clone or download https://github.com/Linfeng-Tang/MSRS",
    splits={"train": Split(1083), "test": Split(361)},
    inputs=("visible", "infrared"),
    extras=("label",),
    layouts=(
        Layout(
            {
                "visible": f"{{split}}/{VISIBLE}/{{key}}",
                "infrared": f"{{split}}/{INFRARED}/{{key}}",
                "label": "{split}/(segmentation_labels|label|labels)/{key}",
            }
        ),
        Layout(
            {
                "visible": f"{VISIBLE}/{{split}}/(msrs/|){{key}}",
                "infrared": f"{INFRARED}/{{split}}/(msrs/|){{key}}",
                "label": "(segmentation_labels|label|labels)/{split}/(msrs/|){key}",
            }
        ),
        Layout(
            {
                "visible": f"{VISIBLE}/{{key}}",
                "infrared": f"{INFRARED}/{{key}}",
                "label": "(segmentation_labels|label|labels)/{key}",
            }
        ),
    ),
)
