"""Tables of scores for a terminal, in Markdown and in LaTeX.

The best method of a metric is marked with `*` or bold, the second best is underlined.
"""

import math
from collections.abc import Callable, Iterable, Sequence

from ditfuse_jax.evaluate.baselines import is_baseline, method_title
from ditfuse_jax.evaluate.bootstrap import best_methods
from ditfuse_jax.evaluate.metrics import Metric
from ditfuse_jax.evaluate.results import Results

Mark = Callable[[str], str]

# Direction of a metric -> meaning of its arrow.
MEANINGS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "zero": "closer to zero is better",
}
_LATEX_ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$", "zero": r"$\to 0$"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "²": r"\textsuperscript{2}",
    "∞": r"$\infty$",
    "–": "--",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def format_row(values: Iterable[float], like: Iterable[float] = ()) -> list[str]:
    """Returns values of one metric as text, all with the number of decimals that suits the largest.

    Args:
      values: to format.
      like: values that determine the number of decimals instead.
    """
    values = list(values)
    sizes = list(like) or values
    size = max((abs(value) for value in sizes if math.isfinite(value)), default=0.0)
    decimals = 1 if size >= 1000 else 2 if size >= 10 else 4
    texts = {math.inf: "∞", -math.inf: "-∞"}
    return [
        "–" if math.isnan(value) else texts.get(value, f"{value:.{decimals}f}") for value in values
    ]


def format_number(value: float, decimals: int = 3) -> str:
    """Returns a number as text; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def heading(metric: Metric) -> str:
    """Returns a metric's title with its unit."""
    return f"{metric.title}, {metric.unit}" if metric.unit else metric.title


def marked(results: Results, metric: str) -> tuple[set[str], set[str]]:
    """Returns the best and the second best of the ranked methods."""
    means = {m: results.statistics[metric][m].mean for m in results.ranked}
    return best_methods(metric, means), best_methods(metric, means, place=2)


def text_table(results: Results) -> str:
    """Returns the mean scores for a terminal: a line per metric, the best value marked `*`.

    The interval is that of the first method.  Notes below name the metrics whose mean
    is not over all images.
    """
    methods = results.methods
    lines = [
        [
            f"mean of {_images(results)}",
            "",
            *(f"{method_title(m)} " for m in methods),
            f"95 % of {results.primary}",
        ]
    ]
    for name, row in results.statistics.items():
        metric, (best, _) = results.metric(name), marked(results, name)
        texts = format_row(row[method].mean for method in methods)
        cells = [
            text + ("*" if method in best else " ")
            for method, text in zip(methods, texts, strict=True)
        ]
        lines.append(
            [
                heading(metric),
                metric.arrow,
                *cells,
                interval_text(results, name, results.primary) or "–",
            ]
        )
    return "\n".join([aligned_text(lines), *results.notes])


def markdown_table(results: Results) -> str:
    """Returns the mean scores, a row per method, and a second table of their intervals."""
    names = results.metrics
    titles = [f"{metric.title} {metric.arrow}" for metric in map(results.metric, names)]
    means = [["method", *titles, "mean rank"]]
    intervals = [["method", *titles]]
    columns = [_decorated(results, name, "**{}**".format, "<u>{}</u>".format) for name in names]
    for place, method in enumerate(results.methods):
        label = _italic_reference(method)
        means.append([label, *(column[place] for column in columns), _rank(results, method)])
        intervals.append([label, *(interval_text(results, name, method) or "–" for name in names)])
    return "\n\n".join(
        [
            f"Mean over {_images(results)}; best **bold**, second <u>underlined</u>"
            f" among {_ranked_among(results)}.",
            markdown_rows(means),
            *results.notes,
            "95 % intervals of the means (percentile bootstrap over images).",
            markdown_rows(intervals),
        ]
    )


def latex_table(results: Results) -> str:
    r"""Returns a `booktabs` table of the mean scores, a row per method; every name is escaped."""
    names = results.metrics
    arrows = [
        f"{escape_latex(results.metric(n).title)} {_LATEX_ARROWS[results.metric(n).direction]}"
        for n in names
    ]
    columns = [
        _decorated(results, name, r"\textbf{{{}}}".format, r"\underline{{{}}}".format, escape_latex)
        for name in names
    ]
    rows = [
        [
            escape_latex(method_title(method)),
            *(column[place] for column in columns),
            escape_latex(_rank(results, method)),
        ]
        for place, method in enumerate(results.methods)
    ]
    methods = [r for m, r in zip(results.methods, rows, strict=True) if not is_baseline(m)]
    references = [r for m, r in zip(results.methods, rows, strict=True) if is_baseline(m)]
    parts = [[" & ".join(row) + r" \\" for row in part] for part in (methods, references) if part]
    body = "\n\\midrule\n".join("\n".join(part) for part in parts)
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            f"% Mean over {_images(results)}; best bold, second underlined among"
            f" {_ranked_among(results)}.",
            *(f"% {note}" for note in results.notes),
            f"\\begin{{tabular}}{{l{'r' * (len(names) + 1)}}}",
            "\\toprule",
            " & ".join(["Method", *arrows, "Mean rank"]) + r" \\",
            "\\midrule",
            body,
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def escape_latex(text: str) -> str:
    r"""Returns text as LaTeX prints it: `a_b` as `a\_b`."""
    return "".join(_LATEX.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
    r"""Returns text that cannot end a table cell: `a|b` as `a\|b`."""
    return text.replace("|", r"\|")


def _decorated(
    results: Results, name: str, bold: Mark, underline: Mark, escape: Mark = str
) -> list[str]:
    """Returns a metric's column: the means of all methods, the best and second best marked."""
    best, second = marked(results, name)
    texts = format_row(results.statistics[name][method].mean for method in results.methods)

    def mark(method: str, text: str) -> str:
        return bold(text) if method in best else underline(text) if method in second else text

    return [mark(method, escape(text)) for method, text in zip(results.methods, texts, strict=True)]


def interval_text(results: Results, name: str, method: str) -> str:
    """Returns the interval of a method's mean, with the decimals of the means; "" if undefined."""
    row = results.statistics[name]
    if math.isnan(row[method].low):
        return ""
    means = [statistic.mean for statistic in row.values()]
    low, high = format_row([row[method].low, row[method].high], like=means)
    return f"{low} … {high}"


def _rank(results: Results, method: str) -> str:
    rank = results.mean_ranks.get(method, math.nan)
    return "–" if math.isnan(rank) else f"{rank:.2f}"


def _images(results: Results) -> str:
    left_out = f", {len(results.excluded)} excluded" if results.excluded else ""
    preset = "" if results.preset == "canonical" else f", preset {results.preset}"
    return f"{results.count} image{'' if results.count == 1 else 's'}{left_out}{preset}"


def _ranked_among(results: Results) -> str:
    return "methods and baselines" if any(map(is_baseline, results.ranked)) else "the methods"


def _italic_reference(method: str) -> str:
    title = escape_markdown(method_title(method))
    return f"*{title}*" if is_baseline(method) else title


def markdown_rows(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells, the header first, as a Markdown table with right-aligned numbers."""
    header, *body = rows
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *body))


def aligned_text(lines: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells for a terminal, the first column left-aligned, others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
