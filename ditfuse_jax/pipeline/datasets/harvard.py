"""Harvard's brain atlas: registered slices of two modalities, three sets of pairs."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split


def _pairs_with_mri(modality: str) -> Dataset:
    upper = modality.upper()
    return Dataset(
        name=f"harvard_{modality}",
        title=f"Harvard {upper}-MRI",
        task="medical fusion, evaluation",
        homepage="http://www.med.harvard.edu/AANLIB/home.html",
        citation="Johnson, Becker: The Whole Brain Atlas. Harvard Medical School",
        licence="see the atlas; not for diagnosis",
        download=f"{upper}-MRI of a collection of its slices, e.g. "
        "https://github.com/xianming-gu/Havard-Medical-Image-Fusion-Datasets",
        # Collections differ in their slices.
        splits={"full": Split()},
        inputs=("mri", modality),
        layouts=(Layout({"mri": "mri/{key}", modality: f"{modality}/{{key}}"}),),
    )


HARVARD_CT = _pairs_with_mri("ct")
HARVARD_PET = _pairs_with_mri("pet")
HARVARD_SPECT = _pairs_with_mri("spect")
