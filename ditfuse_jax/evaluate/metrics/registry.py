"""The table of metrics: adding one is a function in its family's file and an entry here.

Two kinds stand beside each other.  *Full-reference* metrics compare the output with the clean
photograph it should restore; *fusion* metrics judge it alone or against its sources, on grey.
"""

from ditfuse_jax.evaluate.metrics import information, statistics, structural
from ditfuse_jax.evaluate.metrics.metric import Metric

_ENTRIES = (
    Metric("psnr", "PSNR to clean (RGB)", statistics.psnr, "clean", "higher", "dB", "statistics"),
    Metric(
        "ssim",
        "SSIM to clean (luminance)",
        structural.ssim,
        "clean",
        "higher",
        "",
        "structural",
        structural.WINDOW,
    ),
    Metric("en", "EN", information.entropy, "fused", "higher", "bits", "information"),
    Metric("sd", "SD", statistics.standard_deviation, "fused", "higher", "levels", "statistics"),
    Metric(
        "mi", "MI (sum)", information.mutual_information, "sources", "higher", "bits", "information"
    ),
    Metric(
        "ssim_sources",
        "SSIM to sources (mean)",
        structural.source_ssim,
        "sources",
        "higher",
        "",
        "structural",
        structural.WINDOW,
    ),
    Metric(
        "mse_sources",
        "MSE to sources (mean)",
        statistics.source_mse,
        "sources",
        "lower",
        "levels²",
        "statistics",
    ),
    Metric(
        "psnr_sources",
        "PSNR to sources (of mean MSE)",
        statistics.source_psnr,
        "sources",
        "higher",
        "dB",
        "statistics",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}
