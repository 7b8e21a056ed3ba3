"""The facts of every metric: pinned in a golden text, and equal to the documented table."""

import os
from pathlib import Path

import pytest

from ditfuse_jax.evaluate.metrics import METRIC_PRESETS, METRICS

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "metrics.txt"
UNITS = ("bits", "dB", "levels²", "levels")


def facts(metric):
    return " | ".join(
        [
            metric.name,
            metric.title,
            metric.needs,
            metric.direction,
            metric.unit or "-",
            f"{metric.smallest_side} px",
            "padded" if metric.padded else "exact size",
            metric.nan_when or "never NaN",
        ]
    )


def test_a_changed_fact_of_a_metric_or_preset_shows():
    lines = [facts(metric) for metric in METRICS.values()]
    for preset in METRIC_PRESETS.values():
        lines.append(f"{preset.name}: by_channel={preset.by_channel} stretches={preset.stretches}")
        lines += [f"  {name} = {facts(metric)}" for name, metric in preset.changed.items()]
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def documented():
    """Name -> (metric, arrow, pooled) of the table in docs/metrics.md."""
    rows = {}
    for line in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if len(cells) != 6:
            continue  # the table of presets
        names = cells[0].replace("`", "").split()
        stem = names[0].split("_")[0]
        for name in names:
            rows[stem + name if name.startswith("_") else name] = (cells[1], cells[4], cells[5])
    return rows


def test_every_metric_is_documented():
    assert set(documented()) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_documentation_and_table_agree_on_direction_unit_and_pooling(name):
    what, arrow, pooled = documented()[name]
    metric = METRICS[name]
    assert arrow == metric.arrow
    assert ("pair" in pooled) == (metric.needs == "pair")
    assert ("clean" in what) == (metric.needs == "clean")
    units = [unit for unit in UNITS if unit in what]
    assert (metric.unit in units) if metric.unit else not units
