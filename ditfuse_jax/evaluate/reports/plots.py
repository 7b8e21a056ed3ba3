"""Plots for HTML pages: inline SVG drawn by matplotlib in the page's own colours.

Colours are names of the page's CSS variables (`ink`, `accent`, ...), so a plot follows the page's
light and dark theme.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ditfuse_jax.optional import import_optional

WIDTH = 560  # of a plot, CSS pixels
SERIES_COLOURS = 8  # `series_colour` repeats after these

# Colours that matplotlib accepts, replaced by CSS variables in the finished SVG.
_VARIABLES = (
    *("ink", "soft", "faint", "line", "accent", "card"),
    *(f"c{number}" for number in range(SERIES_COLOURS)),
)
COLOURS = {name: f"#0c0de{number:x}" for number, name in enumerate(_VARIABLES)}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "ditfuse_jax",  # equal plots are equal text
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "text.color": COLOURS["ink"],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.prop_cycle": "cycler('color', {})".format(
        [COLOURS[name] for name in ("accent", *_VARIABLES[-SERIES_COLOURS:])]
    ),
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.xmargin": 0,
    "grid.color": COLOURS["line"],
    "axes.labelcolor": COLOURS["soft"],
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    **{f"{axis}tick.labelcolor": COLOURS["faint"] for axis in "xy"},
    **{f"{axis}tick.{kind}.size": 0 for axis in "xy" for kind in ("major", "minor")},
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_LOG_SCALE_FROM = 20.0  # largest value over smallest


@dataclass(frozen=True)
class Plot:
    """One panel of a page.

    Attributes:
      title: above the panel.
      draw: draws on matplotlib `Axes`; use `COLOURS` for colours.
      note: right of the title.
      height: CSS pixels; the width is `WIDTH`.
    """

    title: str
    draw: Callable[[Any], None]
    note: str = ""
    height: int = 220


@dataclass(frozen=True)
class DrawnPlot:
    """What a page's template shows."""

    title: str
    note: str
    svg: str


def draw_plots(plots: Sequence[Plot]) -> list[DrawnPlot]:
    """Draws plots for a page.

    Raises:
      UserError: matplotlib is not installed.
    """
    return [DrawnPlot(plot.title, plot.note, draw_svg(plot)) for plot in plots]


def draw_svg(plot: Plot) -> str:
    """Returns a plot as an `<svg>` element.

    Lines and areas whose `gid` is `series-N` get the attribute `data-series="N"`.

    Raises:
      UserError: matplotlib is not installed.
    """
    matplotlib = import_optional("matplotlib", "reports")
    figures = import_optional("matplotlib.figure", "reports")
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(WIDTH / 72, plot.height / 72), layout="constrained")
        plot.draw(figure.subplots())
        figure.savefig(text, format="svg", metadata=_NO_METADATA)
    svg = text.getvalue()
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg[svg.index("<svg") :])  # HTML needs neither
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return re.sub(r'id="series-(\d+)"', r'data-series="\1"', svg)


def series_colour(number: int) -> str:
    """Returns the colour of the series of that number, counted from 0."""
    return COLOURS[f"c{number % SERIES_COLOURS}"]


def is_logarithmic(low: float, high: float) -> bool:
    """Returns whether values in this range are drawn on a logarithmic scale."""
    return low > 0 and high > _LOG_SCALE_FROM * low


def format_axes(axes: Any, *, logarithmic: bool = False) -> None:
    """Formats axes of steps (x) and values (y): few round ticks, numbers without powers of ten."""
    tickers = import_optional("matplotlib.ticker", "reports")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(tickers.NullLocator())
    else:
        axes.yaxis.set_major_locator(tickers.MaxNLocator(5))
    axes.yaxis.set_major_formatter(tickers.StrMethodFormatter("{x:.4g}"))
    axes.xaxis.set_major_locator(tickers.MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(tickers.StrMethodFormatter("{x:,.0f}"))
