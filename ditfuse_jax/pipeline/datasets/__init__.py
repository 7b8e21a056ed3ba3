"""Descriptions of public data sets: how their archives arrange the files."""

from ditfuse_jax.pipeline.datasets.camvid import CAMVID
from ditfuse_jax.pipeline.datasets.coco import COCO
from ditfuse_jax.pipeline.datasets.dataset import LABEL, Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.find import Example, find_examples
from ditfuse_jax.pipeline.datasets.fmb import FMB
from ditfuse_jax.pipeline.datasets.harvard import HARVARD_CT, HARVARD_PET, HARVARD_SPECT
from ditfuse_jax.pipeline.datasets.llvip import LLVIP
from ditfuse_jax.pipeline.datasets.lytro import LYTRO
from ditfuse_jax.pipeline.datasets.m3fd import M3FD
from ditfuse_jax.pipeline.datasets.mefb import MEFB
from ditfuse_jax.pipeline.datasets.mffw import MFFW
from ditfuse_jax.pipeline.datasets.mfi_whu import MFI_WHU
from ditfuse_jax.pipeline.datasets.msrs import MSRS
from ditfuse_jax.pipeline.datasets.real_mff import REAL_MFF
from ditfuse_jax.pipeline.datasets.roadscene import ROADSCENE
from ditfuse_jax.pipeline.datasets.selection import Selection, parse_selection, select_stacks
from ditfuse_jax.pipeline.datasets.sice import SICE
from ditfuse_jax.pipeline.datasets.tno import TNO
from ditfuse_jax.registry import Registry

__all__ = [
    "DATASETS",
    "LABEL",
    "Dataset",
    "Example",
    "Layout",
    "Selection",
    "Split",
    "find_examples",
    "parse_selection",
    "select_stacks",
]

DATASETS: Registry[Dataset] = Registry(
    "data set",
    {
        dataset.name: dataset
        for dataset in (
            *(MSRS, LLVIP, M3FD, FMB, ROADSCENE, TNO),
            *(LYTRO, MFFW, MFI_WHU, REAL_MFF),
            *(MEFB, SICE),
            *(HARVARD_CT, HARVARD_PET, HARVARD_SPECT),
            *(CAMVID, COCO),
        )
    },
)
