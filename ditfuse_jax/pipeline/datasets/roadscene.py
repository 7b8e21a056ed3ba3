"""RoadScene: infrared and visible road scenes cut from the FLIR videos."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import VISIBLE_INFRARED

ROADSCENE = Dataset(
    name="roadscene",
    title="RoadScene",
    task="infrared-visible fusion",
    homepage="https://github.com/hanna-xu/RoadScene",
    citation="Xu, Ma, Le, Jiang, Guo: FusionDN: A Unified Densely Connected Network for Image "
    "Fusion. AAAI 2020",
    licence="none found; cut from FLIR's videos, which have their own terms",
    download="clone or download https://github.com/hanna-xu/RoadScene",
    splits={"full": Split(221)},
    inputs=("visible", "infrared"),
    layouts=(
        # Only the low-resolution crops have the infrared images' size.
        Layout({"visible": "crop_LR_visible/{key}", "infrared": "cropinfrared/{key}"}),
        VISIBLE_INFRARED,
    ),
)
