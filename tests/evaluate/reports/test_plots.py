"""Plots as inline SVG: the page's colours, no network, a clear error without matplotlib."""

import sys

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.reports.plots import (
    COLOURS,
    Plot,
    draw_plots,
    draw_svg,
    format_axes,
    is_logarithmic,
    series_colour,
)

pytest.importorskip("matplotlib")


def line(values=(0.0, 0.0, 0.0), **options):
    def draw(axes):
        axes.plot(range(len(values)), values, **options)
        format_axes(axes)

    return Plot("line", draw)


def test_colours_are_the_pages_variables_and_text_stays_text(html_page):
    svg = draw_svg(line((1, 3, 2), color=COLOURS["accent"]))
    page = html_page.Page(svg)
    assert "var(--accent)" in svg and "var(--faint)" in svg and "#0c0d" not in svg
    assert {"1", "2", "3"} <= set(page.text.split())
    assert "http" not in svg


def test_equal_plots_are_equal_text():
    assert draw_svg(line()) == draw_svg(line())


def test_a_series_can_be_found_by_the_pages_script():
    assert '<g data-series="3">' in draw_svg(line(gid="series-3"))


def test_series_colours_repeat():
    assert [series_colour(0), series_colour(9)] == [COLOURS["c0"], COLOURS["c1"]]


@pytest.mark.parametrize(
    "low, high, expected", [(1, 21, True), (1, 20, False), (0, 1e9, False), (-1, 100, False)]
)
def test_positive_values_over_a_wide_range_are_logarithmic(low, high, expected):
    assert is_logarithmic(low, high) == expected


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw_plots([]) == []
    with pytest.raises(UserError, match=r"pip install 'ditfuse-jax\[reports\]'"):
        draw_plots([line()])
