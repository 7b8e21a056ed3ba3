"""Conventions of the codes that published tables were made with, to compare with those tables.

A preset replaces the metrics that its code computes differently; all others stay canonical.
`docs/metrics.md` explains the differences.  For new tables use the canonical form.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ditfuse_jax.evaluate.metrics import fidelity, frequency, information, statistics, structural
from ditfuse_jax.evaluate.metrics.borders import extended
from ditfuse_jax.evaluate.metrics.comparison import SSIM_WINDOW, Comparison
from ditfuse_jax.evaluate.metrics.histograms import LEVELS
from ditfuse_jax.evaluate.metrics.metric import Metric
from ditfuse_jax.evaluate.metrics.registry import METRICS
from ditfuse_jax.evaluate.metrics.structural import similarity
from ditfuse_jax.evaluate.metrics.sums import Size, integer_mean
from ditfuse_jax.evaluate.metrics.windows import Windows, box_window
from ditfuse_jax.registry import Registry

_PEAK = statistics.PEAK


@dataclass(frozen=True)
class MetricPreset:
    """How a published code computes its metrics.

    Attributes:
      name: of the preset.
      changed: metrics that the code computes differently, by name.
      stretches: whether the fused image is first stretched to 0..255.
      by_channel: whether a metric is the mean over the RGB channels instead of its value on grey.
    """

    name: str
    changed: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    stretches: bool = False
    by_channel: bool = False

    def metric(self, name: str) -> Metric:
        """Returns the metric as this preset computes it."""
        return self.changed.get(name) or METRICS[name]


# linfeng: float images


def merged_mutual_information(images: Comparison) -> jax.Array:
    """MI as H(X) + H(F) - H(X, F), with levels 254 and 255 merged in the joint histogram alone."""
    joint = images.joint_histograms
    last = LEVELS - 1
    merged = joint.at[..., last - 1, :].add(joint[..., last, :]).at[..., last, :].set(0)
    merged = merged.at[..., last - 1].add(merged[..., last]).at[..., last].set(0)
    together = information.bits(merged.reshape(*joint.shape[:2], -1))
    apart = information.bits(joint.sum(axis=-1)) + information.bits(joint.sum(axis=-2))
    return jnp.sum(apart - together, axis=0)


def unit_ssim(images: Comparison) -> jax.Array:
    """SSIM of MATLAB's `ssim`: images 0..255 taken for 0..1 (L = 1), borders repeated; **mean**."""
    padded = extended(images.stack, len(SSIM_WINDOW) // 2, "edge", images.size)
    sources, fused = images.split(Windows(padded, SSIM_WINDOW))
    local = similarity(sources, fused, sources.covariance(fused), 0.01**2, 0.03**2)
    return jnp.mean(images.mean(local), axis=0)


# linfeng-uint8: the same on 8-bit integers, which saturate


def saturated_standard_deviation(images: Comparison) -> jax.Array:
    """SD of differences F - mean F that are rounded, at least 0, and squared to at most 255."""
    fused = images.fused[0].astype(jnp.int32)
    centre = images.integer_mean(fused)[..., None, None]
    above = jnp.maximum(jnp.round(fused - centre), 0)
    return jnp.sqrt(images.mean(jnp.minimum(above**2, _PEAK)))


# cddfuse


def uniform_ssim(images: Comparison) -> jax.Array:
    """SSIM of scikit-image for floats: 7 x 7 equal weights, sample covariance, L = 2; **sum**."""
    window = box_window(7)
    sources, fused = images.split(Windows(images.stack, window))
    # Sample covariances: with c2 shrunk the same factor cancels.
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2 * (1 - 1 / len(window) ** 2)
    local = similarity(sources, fused, sources.covariance(fused), c1, c2)
    return jnp.sum(images.mean(local), axis=0)


def own_peak_psnr(images: Comparison) -> jax.Array:
    """PSNR with the largest value of the fused image as its peak."""
    peak = jnp.max(images.fused[0], axis=(-2, -1))
    return 10.0 * jnp.log10(peak**2 / images.once(statistics.mean_squared_error))


# vifb


def summed_ssim(images: Comparison) -> jax.Array:
    """SSIM, **sum** over the sources."""
    return len(images.sources) * structural.source_ssim(images)


def divided_root_error(images: Comparison) -> jax.Array:
    """RMSE = **mean** over the sources of sqrt(sum (F - X)^2) / MN: divided twice."""
    differences = (images.fused - images.sources).astype(jnp.int32)
    squares = images.integer_mean(differences**2)
    return jnp.mean(jnp.sqrt(squares / images.count(differences)), axis=0)


def divided_psnr(images: Comparison) -> jax.Array:
    """PSNR with that RMSE in place of the MSE: 55 to 61 dB."""
    return statistics.decibels(images.once(divided_root_error))


def colour_spatial_frequency(images: Comparison) -> jax.Array:
    """SF of the colour image as one M x 3N matrix, red, green, blue side by side; divided by 3MN.

    Of a grey image, SF divided by MN.
    """
    assert images.fused_rgb is not None
    rgb = images.fused_rgb.astype(jnp.int32)
    # Of padded images, only those parts side by side that belong to them.
    width = rgb.shape[2] if images.size is None else images.size[1]
    side_by_side = jnp.concatenate([rgb[..., channel] for channel in range(3)], axis=-1)
    if images.size is not None:
        for channel in (1, 2):
            side_by_side = jax.lax.dynamic_update_slice_in_dim(
                side_by_side, rgb[..., channel], channel * width, axis=-1
            )
    is_grey = jnp.all(rgb == rgb[..., :1], axis=(-3, -2, -1))
    size = images.size
    wide = size and (size[0], 3 * size[1])
    return jnp.where(is_grey, _frequency(rgb[..., 0], size), _frequency(side_by_side, wide))


def _frequency(x: jax.Array, size: Size) -> jax.Array:
    height, width = size or x.shape[-2:]
    across, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    of_rows = integer_mean(across**2, size and (size[0], size[1] - 1)) * (1 - 1 / width)
    of_columns = integer_mean(down**2, size and (size[0] - 1, size[1])) * (1 - 1 / height)
    return jnp.sqrt(of_rows + of_columns)


def _scaled(function: Callable[[Comparison], jax.Array], factor: float):
    return lambda images: function(images) * factor


def _changed(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


_NATS = dataclasses.replace(
    METRICS["MI"],
    function=_scaled(information.mutual_information, math.log(2)),
    unit="nats",
)
_LINFENG = _changed(
    dataclasses.replace(
        METRICS["MI"], title="MI (sum, 254 = 255)", function=merged_mutual_information
    ),
    dataclasses.replace(
        METRICS["SF"],
        title="SF (of 0..1)",
        function=_scaled(frequency.spatial_frequency, 1 / _PEAK),
        unit="",
    ),
    dataclasses.replace(
        METRICS["MSE"],
        title="MSE (mean, of 0..1)",
        function=_scaled(statistics.mean_squared_error, 1 / _PEAK**2),
        unit="",
    ),
    dataclasses.replace(
        METRICS["PSNR"],
        title="PSNR (+48.13)",
        function=lambda images: statistics.psnr(images) + 20 * math.log10(_PEAK),
    ),
    dataclasses.replace(METRICS["SSIM"], title="SSIM (mean, L = 1)", function=unit_ssim),
    dataclasses.replace(METRICS["MEFSSIM_multi"], name="MSSSIM", title="MS-SSIM (is MEF-SSIM)"),
    dataclasses.replace(METRICS["FMI_edge"], name="FMI_pixel", title="FMI, pixels (is edges)"),
)
_LINFENG_UINT8 = _LINFENG | _changed(
    dataclasses.replace(
        METRICS["SD"], title="SD (saturated)", function=saturated_standard_deviation
    ),
    dataclasses.replace(
        METRICS["VIF"],
        title="VIF (sum, saturated)",
        function=fidelity.saturated_visual_information_fidelity,
    ),
)
_CDDFUSE = _changed(
    _NATS,
    dataclasses.replace(
        METRICS["SSIM"], title="SSIM (sum, 7 x 7, L = 2)", function=uniform_ssim, smallest_side=7
    ),
    dataclasses.replace(METRICS["PSNR"], title="PSNR (own peak)", function=own_peak_psnr),
    dataclasses.replace(METRICS["AG"], title="AG (over MN)", function=frequency.mean_gradient),
)
_VIFB = _changed(
    _NATS,
    dataclasses.replace(METRICS["SSIM"], title="SSIM (sum)", function=summed_ssim),
    dataclasses.replace(METRICS["SF"], title="SF (M x 3N)", function=colour_spatial_frequency),
    dataclasses.replace(
        METRICS["RMSE"], title="RMSE (divided twice)", function=divided_root_error, unit=""
    ),
    dataclasses.replace(METRICS["PSNR"], title="PSNR (of that RMSE)", function=divided_psnr),
)

METRIC_PRESETS: Registry[MetricPreset] = Registry(
    "metric preset",
    {
        preset.name: preset
        for preset in (
            MetricPreset("canonical"),
            MetricPreset("linfeng", _LINFENG),
            MetricPreset("linfeng-uint8", _LINFENG_UINT8),
            MetricPreset("cddfuse", _CDDFUSE, stretches=True),
            MetricPreset("vifb", _VIFB, by_channel=True),
        )
    },
)
