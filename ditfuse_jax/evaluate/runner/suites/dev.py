"""Small data sets of four kinds of fusion, some with published results."""

import dataclasses
from pathlib import Path

from ditfuse_jax.evaluate.runner.suites.suite import EvaluationSet, Suite


def _medical(title: str, first: str, second: str) -> EvaluationSet:
    folder = f"medical/{first}-{second}_dev"
    return EvaluationSet(
        f"{first}-{second}_dev", title, (f"{folder}/{first}", f"{folder}/{second}"), "medical"
    )


SUITE = Suite(
    title="Development sets",
    root=Path("../shared/data"),
    sets=(
        EvaluationSet(
            "roadscene_dev",
            "RoadScene",
            ("ivif/roadscene_dev/vi", "ivif/roadscene_dev/ir"),
            "ivif",
            task="ivif",
        ),
        EvaluationSet(
            "tno_dev",
            "TNO",
            ("ivif/tno_dev/vi", "ivif/tno_dev/ir"),
            "ivif",
            "ivif/tno_dev/published",
            "ivif",
        ),
        EvaluationSet(
            "lytro_dev",
            "Lytro",
            ("mff/lytro_dev/a", "mff/lytro_dev/b"),
            "mff",
            "mff/lytro_dev/published",
            "mff",
            ".jpg",
            "Sources and published results are JPEG files, so a model's images are saved as JPEG"
            " with quality 95 before they are scored.",
        ),
        EvaluationSet(
            "mefb_dev",
            "MEFB",
            ("mef/mefb_dev/under", "mef/mefb_dev/over"),
            "mef",
            "mef/mefb_dev/published",
            "mef",
        ),
        _medical("CT-MRI", "ct", "mri"),
        _medical("PET-MRI", "pet", "mri"),
        _medical("SPECT-MRI", "spect", "mri"),
    ),
)


def without_published(*names: str) -> tuple[EvaluationSet, ...]:
    """Returns sets of the suite by name, whose sources another suite changes."""
    return tuple(
        dataclasses.replace(one, published=None, suffix=".png", note="")
        for one in SUITE.sets
        if one.name in names
    )
