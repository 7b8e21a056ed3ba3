"""Tables for terminals, Markdown and LaTeX."""

import dataclasses
import math
import re

from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.evaluate.reports.tables import (
    escape_latex,
    format_row,
    interval_text,
    latex_table,
    markdown_table,
    text_table,
)
from ditfuse_jax.evaluate.results import Results

EN, MSE, SSIM = "EN", "MSE", "SSIM"


def results(*methods: str, excluded: int = 0) -> Results:
    """Each method is a little better than the one after it, by every metric; baselines are best."""
    names = [*methods, "mean", "copy_b"]
    images = {
        str(i): {
            EN: {m: 7 - k / 10 + i / 100 for k, m in enumerate(names)},
            MSE: {m: 1000.0 + 100 * k + i for k, m in enumerate(names)},
            SSIM: {m: 0.9 - k / 100 + i / 1000 for k, m in enumerate(names)},
        }
        for i in range(5)
    }
    for row in images.values():
        row[EN]["mean"] = 9.0
    return Results(images, {f"bad{i}": "is damaged" for i in range(excluded)})


def test_values_of_a_row_share_their_decimals():
    assert format_row([31.256, 8.1, math.inf, math.nan]) == ["31.26", "8.10", "∞", "–"]
    assert format_row([0.51234, 0.9]) == ["0.5123", "0.9000"]
    assert format_row([1234.56]) == ["1234.6"]


def test_an_interval_has_the_decimals_of_the_means():
    values = {"small": (7.0, 7.2), "large": (11.0, 12.0)}
    images = {str(i): {EN: {m: v[i] for m, v in values.items()}} for i in (0, 1)}
    scored = Results(images)
    assert interval_text(scored, EN, "small") == "7.00 … 7.20"
    assert interval_text(Results({"0": images["0"]}), EN, "small") == ""


def test_the_terminal_table_is_aligned_and_marks_the_best():
    header, *lines = text_table(results("fused")).splitlines()
    assert header.startswith("mean of 5 images") and len(lines) == 3
    order = sorted((EN, MSE, SSIM), key=list(METRICS).index)
    for line, name in zip(lines, order, strict=True):
        assert line.startswith(METRICS[name].title)
        assert line.count("*") == 1
    column = header.index("fused") + len("fused")
    assert all(line[column - 1].isdigit() and line[column : column + 1] in "* " for line in lines)
    assert "copy B" in header and "95 % of fused" in header


def test_excluded_images_are_counted_in_every_table():
    scored = results("fused", excluded=2)
    for table in (text_table, markdown_table, latex_table):
        assert "5 images, 2 excluded" in table(scored)


def test_tables_explain_undefined_values():
    images = {"a": {"SCD": {"fused": 1.5, "copy_a": math.nan}, EN: {"fused": 7.0, "copy_a": 6.0}}}
    for table in (text_table, markdown_table, latex_table):
        (note,) = re.findall(r"^.* is undefined .*$", table(Results(images)), re.MULTILINE)
        assert (
            note.removeprefix("% ").startswith("SCD (sum)") and "the fused image equals one" in note
        )
        assert "undefined" not in table(results("fused"))


def test_an_image_without_a_metric_does_not_make_it_undefined_but_every_table_says_so():
    large, small = {EN: {"fused": 7.0}, SSIM: {"fused": 0.9}}, {EN: {"fused": 7.0}}
    scored = Results({"large": large, "small": small}, impossible={SSIM: {"small": "needs more"}})
    for table in (text_table, markdown_table, latex_table):
        assert "SSIM (mean) is of 1 of 2 images: it needs more (image small)." in table(scored)
        assert "undefined" not in table(scored)


def test_every_table_names_the_preset_and_its_titles_of_metrics():
    scored = dataclasses.replace(results("fused"), preset="vifb")
    for table in (text_table, markdown_table, latex_table):
        assert "preset vifb" in table(scored) and "SSIM (sum)" in table(scored)
        assert "preset" not in table(results("fused")) and "SSIM (mean)" in table(results("fused"))


def test_markdown_marks_best_and_second_and_has_as_many_cells_in_every_row():
    text = markdown_table(results("One", "Two|pipe", "Three"))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        cells = [len(re.split(r"(?<!\\)\|", line)) for line in table]
        assert len(set(cells)) == 1 and len(table) == 2 + 5
    means = tables[0]
    assert means[2].count("**") == 2 * 3 and "<u>" not in means[2]
    assert means[3].count("<u>") == 3
    assert not any("**" in line or "<u>" in line for line in means[4:])  # baselines included
    assert means[2].endswith("| 1.00 |") and means[5].endswith("| – |")
    assert f"{METRICS[EN].title} ↑" in means[0] and f"{METRICS[MSE].title} ↓" in means[0]


def test_headers_contain_sum_or_mean():
    scored = results("One")
    titles = [METRICS[name].title for name in (MSE, SSIM)]
    for title in titles:
        assert "(sum)" in title or "(mean)" in title
        for table in (text_table, markdown_table, latex_table):
            assert title in table(scored)


def test_latex_is_balanced_with_the_best_bold_and_the_second_underlined():
    text = latex_table(results("One", "Two", "Three"))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    (columns,) = re.findall(r"begin\{tabular\}\{(l?r+)\}", text)
    assert all(row.count("&") == len(columns) - 1 for row in rows)
    assert rows[1].count(r"\textbf{") == 3 and rows[2].count(r"\underline{") == 3
    assert r"\uparrow" in rows[0] and r"\downarrow" in rows[0]
    assert text.count("{") == text.count("}")
    assert text.index(r"\midrule", text.index("Three")) < text.index("copy B")


def test_latex_escapes_every_special_character():
    assert escape_latex("a_b & 5 % $#{}") == r"a\_b \& 5 \% \$\#\{\}"
    assert escape_latex("\\^~<>|") == (
        r"\textbackslash{}\textasciicircum{}\textasciitilde{}\textless{}\textgreater{}\textbar{}"
    )
    text = latex_table(results("U2_Fusion & co", "100%"))
    assert r"U2\_Fusion \& co" in text and r"100\%" in text
    # A percent sign that is not escaped would swallow the rest of its line.
    body = text[text.index(r"\begin") :]
    assert not re.search(r"(?<!\\)%", body)
