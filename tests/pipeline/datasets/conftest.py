"""Tiny archives that are laid out like the official ones."""

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from ditfuse_jax.pipeline.datasets import DATASETS, Dataset, Split

COUNT = 3  # examples per split, numbered from 1

# Data set -> archives -> split -> role -> file of example `k`.
LAYOUTS: dict[str, tuple[dict[str, dict[str, str]], ...]] = {
    "msrs": (
        {
            s: {
                "visible": f"MSRS-main/{s}/vi/{{k:05}}D.png",
                "infrared": f"MSRS-main/{s}/ir/{{k:05}}D.png",
                "label": f"MSRS-main/{s}/Segmentation_labels/{{k:05}}D.png",
            }
            for s in ("train", "test")
        },
        {
            "train": {
                "visible": "Visible/train/MSRS/{k:05}D.png",
                "infrared": "Infrared/train/MSRS/{k:05}D.png",
                "label": "Label/train/MSRS/{k:05}D.png",
            }
        },
    ),
    "llvip": (
        {
            s: {
                "visible": f"LLVIP/visible/{s}/{{k:06}}.jpg",
                "infrared": f"LLVIP/infrared/{s}/{{k:06}}.jpg",
            }
            for s in ("train", "test")
        },
    ),
    "m3fd": (
        {
            "detection": {
                "visible": "M3FD_Detection/Vis/{k:05}.png",
                "infrared": "M3FD_Detection/Ir/{k:05}.png",
            },
            "fusion": {
                "visible": "M3FD_Fusion/Vis/{k:05}.png",
                "infrared": "M3FD_Fusion/Ir/{k:05}.png",
            },
        },
    ),
    "fmb": (
        {
            s: {
                "visible": f"FMB/{s}/Visible/{{k:05}}.png",
                "infrared": f"FMB/{s}/Infrared/{{k:05}}.png",
                "label": f"FMB/{s}/Label/{{k:05}}.png",
            }
            for s in ("train", "test")
        },
    ),
    "roadscene": (
        {
            "full": {
                "visible": "RoadScene-master/crop_LR_visible/FLIR_{k:05}.jpg",
                "infrared": "RoadScene-master/cropinfrared/FLIR_{k:05}.jpg",
            }
        },
        {"full": {"visible": "vi/FLIR_{k:05}.jpg", "infrared": "ir/FLIR_{k:05}.jpg"}},
    ),
    "tno": (
        {
            "full": {
                "visible": "TNO/Athena_images/helicopter/VIS_meting{k:03}_r.bmp",
                "infrared": "TNO/Athena_images/helicopter/IR_meting{k:03}_g.bmp",
            }
        },
        {
            "full": {
                "visible": "TNO/FEL_images/camp_sequence/visual/18{k:02}v.bmp",
                "infrared": "TNO/FEL_images/camp_sequence/thermal/18{k:02}i.bmp",
            }
        },
        {"full": {"visible": "vi/{k:02}.png", "infrared": "ir/{k:02}.png"}},
    ),
    "lytro": (
        {"test": {"a": "Lytro/lytro-{k:02}-A.jpg", "b": "Lytro/lytro-{k:02}-B.jpg"}},
        {"test": {"a": "sourceA/lytro-{k:02}-A.jpg", "b": "sourceB/lytro-{k:02}-B.jpg"}},
        {"test": {"a": "a/lytro_{k:02}.jpg", "b": "b/lytro_{k:02}.jpg"}},
    ),
    "mffw": (
        {"test": {"a": "MFFW/MFFW2/MFFW2_{k:02}_A.jpg", "b": "MFFW/MFFW2/MFFW2_{k:02}_B.jpg"}},
        {"test": {"a": "MFFW/A/{k}.png", "b": "MFFW/B/{k}.png"}},
    ),
    "mfi_whu": (
        {
            "test": {
                "a": "MFI-WHU/source_1/{k:03}.jpg",
                "b": "MFI-WHU/source_2/{k:03}.jpg",
                "sharp": "MFI-WHU/full_clear/{k:03}.jpg",
            }
        },
        {"test": {"a": "MFI-WHU_{k:02}_A.jpg", "b": "MFI-WHU_{k:02}_B.jpg"}},
    ),
    "real_mff": (
        {
            "full": {
                "a": "RealMFF/imageA/{k:03}_A.png",
                "b": "RealMFF/imageB/{k:03}_B.png",
                "sharp": "RealMFF/Fusion/{k:03}_F.png",
            }
        },
    ),
    "mefb": (
        {
            "test": {
                "a": "MEFB-main/Input/Scene{k}/_MDF00{k:02}.tif",
                "b": "MEFB-main/Input/Scene{k}/Scene{k}_B.tif",
            }
        },
        {"test": {"a": "under/Scene{k}.tif", "b": "over/Scene{k}.tif"}},
    ),
    "sice": (
        {
            split: {
                "under": f"{folder}/{{k}}/1.JPG",
                "over": f"{folder}/{{k}}/10.JPG",
                "reference": f"{folder}/Label/{{k}}.JPG",
            }
            for split, folder in (("part1", "Dataset_Part1"), ("part2", "Dataset_Part2"))
        },
    ),
    **{
        f"harvard_{modality}": (
            {
                "full": {
                    "mri": f"{modality.upper()}-MRI/MRI/20{{k:02}}.png",
                    modality: f"{modality.upper()}-MRI/{modality.upper()}/20{{k:02}}.png",
                }
            },
        )
        for modality in ("ct", "pet", "spect")
    },
    "camvid": (
        {
            s: {
                "image": f"CamVid/{s}/0016E5_{{k:05}}.png",
                "label": f"CamVid/{s}annot/0016E5_{{k:05}}.png",
            }
            for s in ("train", "val", "test")
        },
        {
            s: {
                "image": f"camvid_{s}/images/0016E5_{{k:05}}.jpg",
                "label": f"camvid_{s}/labels/0016E5_{{k:05}}.png",
            }
            for s in ("train", "val")
        },
    ),
    "coco_photos": ({s: {"image": f"{s}2017/{{k:012}}.jpg"} for s in ("train", "val")},),
}
CASES = [(name, k) for name, archives in LAYOUTS.items() for k in range(len(archives))]


def pytest_generate_tests(metafunc):
    """A test that takes `case` runs for every layout of every data set."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES, ids=[f"{name}-{k}" for name, k in CASES])


@dataclasses.dataclass(frozen=True)
class Archive:
    """A tiny copy of a data set: `dataset` has its counts, `files[split][role]` its files."""

    dataset: Dataset
    folder: Path
    files: Mapping[str, Mapping[str, list[Path]]]

    @property
    def splits(self) -> list[str]:
        return list(self.dataset.splits)

    def source(self, *words: str, place: Path | None = None) -> str:
        """The name of a source, e.g. of `source("train", "partial")`."""
        return f"dataset:{':'.join([self.dataset.name, *words])}@{place or self.folder}"

    def values(self, split: str, role: str) -> list[int]:
        return [value_of(split, role, k) for k in range(1, COUNT + 1)]

    def zipped(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as packed:
            for file in sorted(self.folder.rglob("*.*")):
                packed.write(file, file.relative_to(self.folder))
        return path


def picture(value: int, size: tuple[int, int] = (6, 8)) -> bytes:
    return cv2.imencode(".png", np.full(size, value, np.uint8))[1].tobytes()


def value_of(split: str, role: str, k: int) -> int:
    """Returns the value of every pixel of a file, different for each split, role and example."""
    return (sum(map(ord, split)) * 7 + sum(map(ord, role)) * 3 + k) % 256


@pytest.fixture
def make_archive(tmp_path, monkeypatch):
    """Returns a function (name, index of its layout) -> `Archive`; `DATASETS` has its counts."""

    def make(name: str, which: int = 0, extra: tuple[str, ...] = ()) -> Archive:
        layout = LAYOUTS[name][which]
        splits = {
            split: Split(COUNT if known.count else None, known.folders)
            for split, known in DATASETS[name].splits.items()
            if split in layout
        }
        dataset = dataclasses.replace(DATASETS[name], splits=splits)
        monkeypatch.setitem(DATASETS._entries, name, dataset)
        folder, files = tmp_path / "archive", {}
        for split, patterns in layout.items():
            files[split] = {}
            for role, pattern in patterns.items():
                files[split][role] = [folder / pattern.format(k=k) for k in range(1, COUNT + 1)]
                for k, path in enumerate(files[split][role], 1):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(picture(value_of(split, role, k)))
        for path in extra:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(picture(1))
        return Archive(dataset, folder, files)

    return make
