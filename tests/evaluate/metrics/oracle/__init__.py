"""Every fusion metric once more: float64 NumPy, plain loops over windows, as the papers say.

Nothing here is shared with the package, and nothing is fast.  Grey images are `(H, W)` float64
holding integers 0..255, sources a list of them; `scores` has the keys of the registry.
"""

import math

import numpy as np

from .features import cosine_transform, feature_information, sobel_edges
from .gradients import (
    artefacts,
    artefacts_petrovic,
    average_gradient,
    edge_intensity,
    extended_spatial_frequency,
    local_edge_ratio,
    loss,
    multiscale_edges,
    qabf,
    qabf_kumar,
    spatial_frequency,
)
from .information import (
    bits,
    cross_entropy,
    entropy,
    joint,
    mutual_information,
    nonlinear_correlation,
    normalised_mutual_information,
    tsallis_cvejic,
    tsallis_nava,
)
from .perception import chen_blum, chen_varshney, source_vif, vif_for_fusion, vif_scales
from .phase import phase_quality
from .statistics import correlation, difference_correlation, mean_squared_error, psnr
from .structure import (
    cvejic,
    mef_ssim,
    multiscale_mef_ssim,
    multiscale_ssim,
    piella,
    piella_edges,
    piella_weighted,
    source_ssim,
    ssim_map,
    yang,
)
from .windows import filtered, gaussian, grey, stretched

__all__ = [
    "METRICS",
    "bits",
    "entropy",
    "filtered",
    "gaussian",
    "grey",
    "joint",
    "mutual_information",
    "scores",
    "source_ssim",
    "spatial_frequency",
    "ssim_map",
    "stretched",
    "vif_scales",
]

METRICS = {
    "EN": entropy,
    "MI": mutual_information,
    "NMI": normalised_mutual_information,
    "CE": cross_entropy,
    "Qte": tsallis_cvejic,
    "Qte_nava": tsallis_nava,
    "Qncie": nonlinear_correlation,
    "SD": lambda fused, sources: fused.std(),
    "CC": lambda fused, sources: np.mean([correlation(source, fused) for source in sources]),
    "SCD": difference_correlation,
    "MSE": mean_squared_error,
    "RMSE": lambda fused, sources: math.sqrt(mean_squared_error(fused, sources)),
    "PSNR": psnr,
    "SF": spatial_frequency,
    "AG": average_gradient,
    "EI": edge_intensity,
    "Qsf": extended_spatial_frequency,
    "Qabf": qabf,
    "Qabf_kumar": qabf_kumar,
    "Qg": local_edge_ratio,
    "Labf": loss,
    "Nabf": artefacts,
    "Nabf_petrovic": artefacts_petrovic,
    "Qm": multiscale_edges,
    "SSIM": source_ssim,
    "MSSSIM": multiscale_ssim,
    "MEFSSIM": mef_ssim,
    "MEFSSIM_multi": multiscale_mef_ssim,
    "Qs": piella,
    "Qw": piella_weighted,
    "Qe": piella_edges,
    "Qc": cvejic,
    "Qy": yang,
    "VIF": source_vif,
    "VIFF": vif_for_fusion,
    "Qcb": chen_blum,
    "Qcv": chen_varshney,
    "Qp": phase_quality,
    "FMI_pixel": feature_information(lambda image: image),
    "FMI_gradient": feature_information(lambda image: np.gradient(image, axis=1)),
    "FMI_edge": feature_information(sobel_edges),
    "FMI_dct": feature_information(cosine_transform),
}


def scores(fused, sources, names):
    """The named metrics of grey images."""
    with np.errstate(all="ignore"):
        return {name: float(METRICS[name](fused, sources)) for name in names}
