"""The table of metrics: adding one is a function in its family's file and an entry here.

Two kinds stand beside each other.  *Fusion* metrics judge a fused image alone or against its
sources, on grey; *full-reference* metrics compare it with the clean photograph it should restore.
`docs/metrics.md` is this table with formulas, ranges and the presets of published codes.
"""

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import (
    chen,
    fmi,
    frequency,
    haar,
    information,
    mef,
    phase,
    piella,
    statistics,
    structural,
    vif,
    xydeas,
)
from ditfuse_jax.evaluate.metrics.metric import Metric

_FLAT = "where an image is flat"
_FLAT_SOURCE = "where a source is flat"
_FLAT_SOURCES = "where all sources are flat"
_FLAT_PAIR = "where a source and the fused image are flat"
_COPY = "where a source is flat or the fused image equals one up to a constant"
_NO_DETAIL = "where the sources have no detail at one of its scales"
_NO_FEATURE = "where the sources have no feature"

_SSIM_SIDE, _SMALL_SIDE, _VIF_SIDE = structural.WINDOW, piella.SMALL, vif.SMALLEST
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
        undefined=_FLAT_PAIR,
        padded=True,
    ),
    Metric("Qte", "Q_TE, Cvejic (sum)", information.tsallis_information, padded=True),
    Metric(
        "Qte_nava",
        "Q_TE, Nava",
        information.normalised_tsallis_information,
        needs="pair",
        undefined=_FLAT_SOURCES,
        padded=True,
    ),
    Metric("Qncie", "Q_NCIE", information.nonlinear_correlation, padded=True),
    Metric(
        "CE", "CE (mean)", information.cross_entropy, direction="lower", unit="bits", padded=True
    ),
    Metric("FMI_pixel", "FMI, pixels (mean)", fmi.pixel_information, smallest_side=3),
    Metric("FMI_gradient", "FMI, gradient (mean)", fmi.gradient_information, smallest_side=3),
    Metric("FMI_edge", "FMI, edges (mean)", fmi.edge_information, smallest_side=3),
    Metric("FMI_dct", "FMI, DCT (mean)", fmi.cosine_information, smallest_side=3),
    Metric("FMI_wavelet", "FMI, wavelet (mean)", fmi.wavelet_information),
    Metric("SD", "SD", statistics.standard_deviation, needs="fused", unit="levels", padded=True),
    Metric("CC", "CC (mean)", statistics.correlation_coefficient, undefined=_FLAT, padded=True),
    Metric(
        "SCD",
        "SCD (sum)",
        statistics.correlations_of_differences,
        needs="pair",
        undefined=_COPY,
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
    Metric("EI", "EI", frequency.edge_intensity, needs="fused", unit="levels"),
    Metric(
        "Qsf",
        "Q_SF",
        frequency.extended_spatial_frequency,
        direction="zero",
        smallest_side=2,
        undefined=_FLAT_SOURCES,
        padded=True,
    ),
    Metric("Qabf", "Qabf", xydeas.edges_kept, undefined=_FLAT_SOURCES, padded=True),
    Metric("Qabf_kumar", "Qabf, Kumar", xydeas.edges_kept_kumar, smallest_side=2),
    Metric("Qg", "Q_G", xydeas.local_edge_ratio, padded=True),
    Metric("Labf", "Labf", xydeas.loss_of_information, direction="lower", smallest_side=2),
    Metric("Nabf", "Nabf (modified)", xydeas.artefacts, direction="lower", smallest_side=2),
    Metric(
        "Nabf_petrovic",
        "Nabf, Petrovic",
        xydeas.artefacts_petrovic,
        direction="lower",
        smallest_side=2,
    ),
    Metric(
        "Qm", "Q_M", haar.multiscale_edges_kept, smallest_side=haar.SMALLEST, undefined=_NO_DETAIL
    ),
    Metric("Qp", "Q_P", phase.phase_congruency_quality, smallest_side=2, undefined=_NO_FEATURE),
    Metric("SSIM", "SSIM (mean)", structural.source_ssim, smallest_side=_SSIM_SIDE, padded=True),
    Metric("MSSSIM", "MS-SSIM (mean)", structural.multiscale_ssim, smallest_side=_MSSSIM_SIDE),
    Metric("MEFSSIM", "MEF-SSIM, 1 scale", mef.mef_ssim, smallest_side=_SSIM_SIDE, padded=True),
    Metric("MEFSSIM_multi", "MEF-SSIM, 3 scales", mef.multiscale_mef_ssim, smallest_side=_MEF_SIDE),
    Metric("Qs", "Q_S", piella.fusion_quality, smallest_side=_SSIM_SIDE, padded=True),
    Metric(
        "Qw",
        "Q_W",
        piella.weighted_fusion_quality,
        smallest_side=_SSIM_SIDE,
        undefined=_FLAT_SOURCES,
        padded=True,
    ),
    Metric(
        "Qe",
        "Q_E",
        piella.edge_fusion_quality,
        smallest_side=_SSIM_SIDE,
        undefined=_FLAT_SOURCES,
        padded=True,
    ),
    Metric(
        "Qc", "Q_C", piella.cvejic_quality, needs="pair", smallest_side=_SMALL_SIDE, padded=True
    ),
    Metric("Qy", "Q_Y", piella.yang_quality, needs="pair", smallest_side=_SMALL_SIDE, padded=True),
    Metric(
        "VIF",
        "VIF (sum)",
        vif.visual_information_fidelity,
        smallest_side=_VIF_SIDE,
        undefined=_FLAT_SOURCE,
        padded=True,
    ),
    Metric(
        "VIFF",
        "VIFF",
        vif.visual_information_fidelity_for_fusion,
        smallest_side=_VIF_SIDE,
        padded=True,
    ),
    Metric("Qcb", "Q_CB", chen.contrast_preservation, undefined=_FLAT),
    Metric(
        "Qcv",
        "Q_CV",
        chen.regional_distance,
        direction="lower",
        unit="levels²",
        undefined=_FLAT_SOURCES,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}

# What tables of each task report; "default" is quick, and computed where nothing else is asked for.
_CLEAN = ("PSNR_clean", "SSIM_clean")
_IVIF = ("EN", "SD", "SF", "AG", "MI", "SCD", "CC", "VIF", "Qabf", "SSIM")
METRIC_GROUPS: dict[str, tuple[str, ...]] = {
    "default": (*_CLEAN, *_IVIF, "MSE", "PSNR"),
    "ivif": (*_IVIF, "Nabf", "MSSSIM", "FMI_pixel"),
    "mff": ("NMI", "Qncie", "Qabf", "Qp", "Qcb", "Qcv", "Qy", "Qw", "SSIM"),
    "mef": ("MEFSSIM_multi", "Qw", "Qs", "Qcv", "Qabf", "MI", "VIF", "PSNR"),
    "medical": (*_IVIF, "Nabf", "MSSSIM", "FMI_pixel"),
    "restoration": _CLEAN,
}


def register(metric: Metric) -> None:
    """Adds a metric of your own for the rest of the program; it is computed when asked for by name.

    A learned metric without reference is one that needs "host" (see `Metric`):

        model = pyiqa.create_metric("musiq")
        register(Metric("MUSIQ", "MUSIQ", lambda rgb: model(to_tensor(rgb)), "host", "higher"))

    Raises:
      UserError: there is a metric of this name.
    """
    if metric.name in METRICS:
        raise UserError(f"there is a metric {metric.name!r} already: choose another name")
    METRICS[metric.name] = metric


def why_undefined(name: str) -> str:
    """Returns when a metric of `METRICS` is NaN, as "where an image is flat"; "" if it never is."""
    return METRICS[name].undefined
