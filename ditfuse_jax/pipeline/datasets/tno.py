"""TNO: visible (often intensified) and thermal images of military scenes."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.patterns import VISIBLE_INFRARED

TNO = Dataset(
    name="tno",
    title="TNO Image Fusion Dataset",
    task="infrared-visible fusion, evaluation",
    homepage="https://figshare.com/articles/dataset/TNO_Image_Fusion_Dataset/1008029",
    citation="Toet: The TNO Multiband Image Data Collection. Data in Brief 15, 2017",
    licence="see the data set's page",
    download="the archive on "
    "https://figshare.com/articles/dataset/TNO_Image_Fusion_Dataset/1008029, or a selection in "
    "folders vi and ir",
    # Papers take selections of 20 to 60 of its pairs: so no count is given.
    splits={"full": Split()},
    inputs=("visible", "infrared"),
    layouts=(
        # The archive names files in several ways; the number in the name identifies the pair.
        Layout(
            {
                "visible": "{scene}/(vis|visual/|dhv/)*{number}*",
                "infrared": "{scene}/(ir|lwir|thermal/)*{number}*",
            }
        ),
        VISIBLE_INFRARED,
    ),
)
