"""The table of metrics: adding one is a function in its family's file and an entry here.

There are two kinds.  *Fusion* metrics judge a fused image alone or against its sources, on grey;
*full-reference* metrics compare it with the clean photograph that it should restore.
`docs/metrics.md` is this table with formulas, ranges and the presets of published codes.  Other
modules add their own metrics with `register_metric`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from ditfuse_jax.evaluate.metrics import (
    chen,
    features,
    fidelity,
    fmi,
    frequency,
    haar,
    information,
    mef,
    phase,
    piella,
    statistics,
    structural,
    xydeas,
)
from ditfuse_jax.evaluate.metrics.metric import Metric
from ditfuse_jax.registry import Registry, check_name

_FLAT = "where an image is flat"
_FLAT_SOURCE = "where a source is flat"
_FLAT_SOURCES = "where all sources are flat"
_FLAT_PAIR = "where a source and the fused image are flat"
_COPY = "where a source is flat or the fused image equals one up to a constant"
_NO_DETAIL = "where the sources have no detail at one of its scales"
_NO_FEATURE = "where the sources have no feature"

_SSIM_SIDE, _SMALL_SIDE, _VIF_SIDE = structural.WINDOW, piella.SMALL, fidelity.SMALLEST
_MSSSIM_SIDE, _MEF_SIDE = structural.MULTISCALE_SMALLEST, mef.MULTISCALE_SMALLEST

_ENTRIES = (
    Metric(
        "PSNR_clean",
        "PSNR to clean (RGB)",
        statistics.clean_psnr,
        needs="clean",
        unit="dB",
        padded=True,
    ),
    Metric(
        "SSIM_clean",
        "SSIM to clean (luminance)",
        structural.clean_ssim,
        needs="clean",
        smallest_side=_SSIM_SIDE,
        padded=True,
    ),
    Metric("EN", "EN", information.entropy, needs="fused", unit="bits", padded=True),
    Metric("MI", "MI (sum)", information.mutual_information, unit="bits", padded=True),
    Metric(
        "NMI",
        "NMI (sum)",
        information.normalised_mutual_information,
        nan_when=_FLAT_PAIR,
        padded=True,
    ),
    Metric("Qte", "Q_TE, Cvejic (sum)", information.tsallis_information, padded=True),
    Metric(
        "Qte_nava",
        "Q_TE, Nava",
        information.normalised_tsallis_information,
        needs="pair",
        nan_when=_FLAT_SOURCES,
        padded=True,
    ),
    Metric("Qncie", "Q_NCIE", information.nonlinear_correlation, padded=True),
    Metric(
        "CE", "CE (mean)", information.cross_entropy, direction="lower", unit="bits", padded=True
    ),
    Metric("FMI_pixel", "FMI, pixels (mean)", fmi.pixel_information, smallest_side=3, padded=True),
    Metric(
        "FMI_gradient",
        "FMI, gradient (mean)",
        fmi.gradient_information,
        smallest_side=3,
        padded=True,
    ),
    Metric("FMI_edge", "FMI, edges (mean)", fmi.edge_information, smallest_side=3, padded=True),
    Metric(
        "FMI_dct",
        "FMI, DCT (mean)",
        fmi.cosine_information,
        smallest_side=3,
        padded=True,
        prepare=features.prepare_cosine_transform,
    ),
    Metric("FMI_wavelet", "FMI, wavelet (mean)", fmi.wavelet_information, padded=True),
    Metric("SD", "SD", statistics.standard_deviation, needs="fused", unit="levels", padded=True),
    Metric("CC", "CC (mean)", statistics.correlation_coefficient, nan_when=_FLAT, padded=True),
    Metric(
        "SCD",
        "SCD (sum)",
        statistics.correlations_of_differences,
        needs="pair",
        nan_when=_COPY,
        padded=True,
    ),
    Metric(
        "MSE",
        "MSE (mean)",
        statistics.mean_squared_error,
        direction="lower",
        unit="levels²",
        padded=True,
    ),
    Metric(
        "RMSE",
        "RMSE (of mean MSE)",
        statistics.root_mean_squared_error,
        direction="lower",
        unit="levels",
        padded=True,
    ),
    Metric("PSNR", "PSNR (of mean MSE)", statistics.psnr, unit="dB", padded=True),
    Metric(
        "SF",
        "SF",
        frequency.spatial_frequency,
        needs="fused",
        unit="levels",
        smallest_side=2,
        padded=True,
    ),
    Metric(
        "AG",
        "AG",
        frequency.average_gradient,
        needs="fused",
        unit="levels",
        smallest_side=2,
        padded=True,
    ),
    Metric("EI", "EI", frequency.edge_intensity, needs="fused", unit="levels", padded=True),
    Metric(
        "Qsf",
        "Q_SF",
        frequency.extended_spatial_frequency,
        direction="zero",
        smallest_side=2,
        nan_when=_FLAT_SOURCES,
        padded=True,
    ),
    Metric("Qabf", "Qabf", xydeas.edges_kept, nan_when=_FLAT_SOURCES, padded=True),
    Metric("Qabf_kumar", "Qabf, Kumar", xydeas.edges_kept_kumar, smallest_side=2, padded=True),
    Metric("Qg", "Q_G", xydeas.local_edge_ratio, padded=True),
    Metric(
        "Labf", "Labf", xydeas.loss_of_information, direction="lower", smallest_side=2, padded=True
    ),
    Metric(
        "Nabf", "Nabf (modified)", xydeas.artefacts, direction="lower", smallest_side=2, padded=True
    ),
    Metric(
        "Nabf_petrovic",
        "Nabf, Petrovic",
        xydeas.artefacts_petrovic,
        direction="lower",
        smallest_side=2,
        padded=True,
    ),
    Metric(
        "Qm",
        "Q_M",
        haar.multiscale_edges_kept,
        smallest_side=haar.SMALLEST,
        nan_when=_NO_DETAIL,
        padded=True,
    ),
    Metric(
        "Qp",
        "Q_P",
        phase.phase_congruency_quality,
        smallest_side=2,
        nan_when=_NO_FEATURE,
        padded=True,
        prepare=phase.prepare_phase_congruency,
    ),
    Metric("SSIM", "SSIM (mean)", structural.source_ssim, smallest_side=_SSIM_SIDE, padded=True),
    Metric(
        "MSSSIM",
        "MS-SSIM (mean)",
        structural.multiscale_ssim,
        smallest_side=_MSSSIM_SIDE,
        padded=True,
    ),
    Metric("MEFSSIM", "MEF-SSIM, 1 scale", mef.mef_ssim, smallest_side=_SSIM_SIDE, padded=True),
    Metric(
        "MEFSSIM_multi",
        "MEF-SSIM, 3 scales",
        mef.multiscale_mef_ssim,
        smallest_side=_MEF_SIDE,
        padded=True,
    ),
    Metric("Qs", "Q_S", piella.fusion_quality, smallest_side=_SSIM_SIDE, padded=True),
    Metric(
        "Qw",
        "Q_W",
        piella.weighted_fusion_quality,
        smallest_side=_SSIM_SIDE,
        nan_when=_FLAT_SOURCES,
        padded=True,
    ),
    Metric(
        "Qe",
        "Q_E",
        piella.edge_fusion_quality,
        smallest_side=_SSIM_SIDE,
        nan_when=_FLAT_SOURCES,
        padded=True,
    ),
    Metric(
        "Qc", "Q_C", piella.cvejic_quality, needs="pair", smallest_side=_SMALL_SIDE, padded=True
    ),
    Metric("Qy", "Q_Y", piella.yang_quality, needs="pair", smallest_side=_SMALL_SIDE, padded=True),
    Metric(
        "VIF",
        "VIF (sum)",
        fidelity.visual_information_fidelity,
        smallest_side=_VIF_SIDE,
        nan_when=_FLAT_SOURCE,
        padded=True,
    ),
    Metric(
        "VIFF",
        "VIFF",
        fidelity.visual_information_fidelity_for_fusion,
        smallest_side=_VIF_SIDE,
        padded=True,
    ),
    Metric(
        "Qcb",
        "Q_CB",
        chen.contrast_preservation,
        nan_when=_FLAT,
        padded=True,
        prepare=chen.prepare_contrast_preservation,
    ),
    Metric(
        "Qcv",
        "Q_CV",
        chen.regional_distance,
        direction="lower",
        unit="levels²",
        nan_when=_FLAT_SOURCES,
        padded=True,
        prepare=chen.prepare_regional_distance,
    ),
)

METRICS: Registry[Metric] = Registry("metric", {metric.name: metric for metric in _ENTRIES})

# The metrics that tables of each task report.  Those of "fuse" are quick to compute.
CLEAN_METRICS = ("PSNR_clean", "SSIM_clean")
_IVIF = ("EN", "SD", "SF", "AG", "MI", "SCD", "CC", "VIF", "Qabf", "SSIM")
TASK_METRICS: Registry[tuple[str, ...]] = Registry(
    "evaluation task",
    {
        "fuse": (*CLEAN_METRICS, *_IVIF, "MSE", "PSNR"),
        "ivif": (*_IVIF, "Nabf", "MSSSIM", "FMI_pixel"),
        "mff": ("NMI", "Qncie", "Qabf", "Qp", "Qcb", "Qcv", "Qy", "Qw", "SSIM"),
        "mef": ("MEFSSIM_multi", "Qw", "Qs", "Qcv", "Qabf", "MI", "VIF", "PSNR"),
        "medical": (*_IVIF, "Nabf", "MSSSIM", "FMI_pixel"),
    },
)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def register_metric(name: str, title: str = "", **facts: Any) -> Callable[[_Function], _Function]:
    """Adds the decorated function to `METRICS`.

        @register_metric("RED", "mean red", needs="fused")
        def mean_red(images: Comparison) -> jax.Array:
            return jnp.mean(images.fused_rgb[..., 0], axis=(1, 2))

    The metric is computed where it is named (`--metrics RED`), or by default for the tasks to whose
    `TASK_METRICS` it is added.

    Args:
      name, title: see `Metric`; the title is the name by default.
      facts: further fields of `Metric`.

    Raises:
      UserError: a metric of that name exists, the name is not a string, or a field has an unknown
        value.
    """
    check_name("metric", name)

    def add(function: _Function) -> _Function:
        METRICS.register(name, Metric(name, title or name, function, **facts))
        return function

    return add
