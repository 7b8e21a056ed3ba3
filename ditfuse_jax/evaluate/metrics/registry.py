"""The table of metrics: adding one is a function in its family's file and an entry here.

Two kinds stand beside each other.  *Fusion* metrics judge a fused image alone or against its
sources, on grey; *full-reference* metrics compare it with the clean photograph it should restore.
`docs/metrics.md` is this table with the formulas' sources.
"""

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
_ALL_FLAT = "where all sources are flat"
_SSIM = structural.WINDOW

_ENTRIES = (
    Metric("PSNR_clean", "PSNR to clean (RGB)", statistics.clean_psnr, "clean", "higher", "dB"),
    Metric("SSIM_clean", "SSIM to clean (luminance)", structural.clean_ssim, "clean", "higher", "", _SSIM),
    Metric("EN", "EN", information.entropy, "fused", "higher", "bits"),
    Metric("SD", "SD", statistics.standard_deviation, "fused", "higher", "levels"),
    Metric("SF", "SF", frequency.spatial_frequency, "fused", "higher", "levels", 2),
    Metric("AG", "AG", frequency.average_gradient, "fused", "higher", "levels", 2),
    Metric("EI", "EI", frequency.edge_intensity, "fused", "higher", "levels"),
    Metric("MI", "MI (sum)", information.mutual_information, "sources", "higher", "bits"),
    Metric("NMI", "NMI (sum)", information.normalised_mutual_information, "sources", "higher", undefined="where a source and the fused image are flat"),
    Metric("Qte", "Q_TE, Cvejic (sum)", information.tsallis_information, "sources", "higher"),
    Metric("Qte_nava", "Q_TE, Nava", information.normalised_tsallis_information, "pair", "higher", undefined=_ALL_FLAT),
    Metric("Qncie", "Q_NCIE", information.nonlinear_correlation, "sources", "higher"),
    Metric("CE", "CE (mean)", information.cross_entropy, "sources", "lower", "bits"),
    Metric("CC", "CC (mean)", statistics.correlation_coefficient, "sources", "higher", undefined=_FLAT),
    Metric("SCD", "SCD (sum)", statistics.correlations_of_differences, "pair", "higher", undefined="where a source is flat or the fused image equals one up to a constant"),
    Metric("MSE", "MSE (mean)", statistics.mean_squared_error, "sources", "lower", "levels²"),
    Metric("RMSE", "RMSE (of mean MSE)", statistics.root_mean_squared_error, "sources", "lower", "levels"),
    Metric("PSNR", "PSNR (of mean MSE)", statistics.psnr, "sources", "higher", "dB"),
    Metric("Qabf", "Qabf", xydeas.edges_kept, "sources", "higher", undefined=_ALL_FLAT),
    Metric("Qabf_kumar", "Qabf, Kumar", xydeas.edges_kept_kumar, "sources", "higher", "", 2),
    Metric("Qg", "Q_G", xydeas.local_edge_ratio, "sources", "higher"),
    Metric("Labf", "Labf", xydeas.loss_of_information, "sources", "lower", "", 2),
    Metric("Nabf", "Nabf (modified)", xydeas.artefacts, "sources", "lower", "", 2),
    Metric("Nabf_petrovic", "Nabf, Petrovic", xydeas.artefacts_petrovic, "sources", "lower", "", 2),
    Metric("Qm", "Q_M", haar.multiscale_edges_kept, "sources", "higher", "", haar.SMALLEST, "where the sources lack details"),
    Metric("Qsf", "Q_SF", frequency.extended_spatial_frequency, "sources", "zero", "", 2, _ALL_FLAT),
    Metric("Qs", "Q_S", piella.fusion_quality, "sources", "higher", "", _SSIM),
    Metric("Qw", "Q_W", piella.weighted_fusion_quality, "sources", "higher", "", _SSIM, _ALL_FLAT),
    Metric("Qe", "Q_E", piella.edge_fusion_quality, "sources", "higher", "", _SSIM, _ALL_FLAT),
    Metric("Qc", "Q_C", piella.cvejic_quality, "pair", "higher", "", piella.SMALL),
    Metric("Qy", "Q_Y", piella.yang_quality, "pair", "higher", "", piella.SMALL),
    Metric("VIF", "VIF (sum)", vif.visual_information_fidelity, "sources", "higher", "", vif.SMALLEST, "where a source is flat"),
    Metric("VIFF", "VIFF", vif.visual_information_fidelity_for_fusion, "sources", "higher", "", vif.SMALLEST),
    Metric("SSIM", "SSIM (mean)", structural.source_ssim, "sources", "higher", "", _SSIM),
    Metric("MSSSIM", "MS-SSIM (mean)", structural.multiscale_ssim, "sources", "higher", "", structural.MULTISCALE_SMALLEST),
    Metric("MEFSSIM", "MEF-SSIM, 1 scale", mef.mef_ssim, "sources", "higher", "", _SSIM),
    Metric("MEFSSIM_multi", "MEF-SSIM, 3 scales", mef.multiscale_mef_ssim, "sources", "higher", "", mef.MULTISCALE_SMALLEST),
    Metric("FMI_pixel", "FMI, pixels (mean)", fmi.pixel_information, "sources", "higher", "", 3),
    Metric("FMI_gradient", "FMI, gradient (mean)", fmi.gradient_information, "sources", "higher", "", 3),
    Metric("FMI_edge", "FMI, edges (mean)", fmi.edge_information, "sources", "higher", "", 3),
    Metric("FMI_dct", "FMI, DCT (mean)", fmi.cosine_information, "sources", "higher", "", 3),
    Metric("FMI_wavelet", "FMI, wavelet (mean)", fmi.wavelet_information, "sources", "higher"),
    Metric("Qp", "Q_P", phase.phase_congruency_quality, "sources", "higher", "", 2, "where no source has a feature"),
    Metric("Qcb", "Q_CB", chen.contrast_preservation, "sources", "higher", "", 1, _FLAT),
    Metric("Qcv", "Q_CV", chen.regional_distance, "sources", "lower", "", 1, _ALL_FLAT),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}
