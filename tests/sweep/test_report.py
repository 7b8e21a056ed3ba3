"""The report's page is complete, self-contained and safe; its plots show the numbers."""

import json

import pytest

from ditfuse_jax.sweep.local import TrialFailure
from ditfuse_jax.sweep.plots import score_plots, training_curves
from ditfuse_jax.sweep.report import write_report
from ditfuse_jax.sweep.table import make_table

pytestmark = pytest.mark.medium

STEPS = 4


@pytest.fixture
def done(plan):
    """A plan whose trainings end at quality 10 x setting + seed, rising from half of it."""

    def build(settings, lengths=(), more=None, **changes):
        words = (f"--config.train.steps={STEPS}",)
        made = plan(settings, overrides=words, **changes)
        for number, training in enumerate(made.trainings):
            steps = (*lengths, *[STEPS] * len(made.trainings))[number]
            score = 10.0 * (number // len(made.sweep.seeds) + 1) + number % len(made.sweep.seeds)
            (training.folder / "checkpoints" / str(steps)).mkdir(parents=True)
            lines = [
                {"step": s, "loss": 100 / s, "eval/quality": score * (STEPS + s) / (2 * STEPS)}
                for s in range(1, steps + 1)
            ]
            lines[-1] |= more or {}
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (training.folder / "metrics.jsonl").write_text(text)
        return made

    return build


AB = {"a": ("--config.flow.draws=1",), "b": ("--config.flow.draws=4",)}


def drawn(plot):
    """The axes that a plot has drawn on."""
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    plot.draw(axes)
    return axes


def band(axes, number):
    """Steps, lowest and highest value of a setting's band."""
    (area,) = [c for c in axes.collections if c.get_gid() == f"series-{number}"]
    corners = area.get_paths()[0].vertices
    steps = sorted(set(corners[:, 0]))
    values = [corners[corners[:, 0] == step, 1] for step in steps]
    return steps, [v.min() for v in values], [v.max() for v in values]


def test_a_curve_is_the_mean_of_the_seeds_and_its_band_reaches_to_all_of_them(done):
    loss, quality = training_curves(done(AB))
    assert loss.title.startswith("loss") and quality.title == "Quality"
    axes = drawn(quality)
    for number, line in enumerate(axes.lines):
        expected = [(10.0 * (number + 1) + 0.5) * (STEPS + s) / (2 * STEPS) for s in range(1, 5)]
        assert line.get_xdata().tolist() == [1, 2, 3, 4]
        assert line.get_ydata().tolist() == pytest.approx(expected)
        steps, low, high = band(axes, number)
        assert steps == [1, 2, 3, 4]
        assert low[-1] == 10 * (number + 1) and high[-1] == 10 * (number + 1) + 1


def test_a_seed_that_came_less_far_does_not_make_the_mean_jump(done):
    # Seed 1, the better one, has two of four steps.
    axes = drawn(training_curves(done(AB, lengths=(STEPS, 2)))[1])
    steps, low, high = band(axes, 0)
    assert steps == [1, 2, 3, 4]
    assert low[1] < high[1] and low[2:] == high[2:]  # from step 3 on one seed is left


def test_settings_that_share_a_training_have_one_curve(done):
    sampled = {f"{n} steps": (f"--config.sample.steps={n}",) for n in (2, 8)}
    made = done(sampled, evaluate=("--data", "x"))
    assert [len(drawn(plot).lines) for plot in training_curves(made)] == [1, 1]


def test_scores_show_seeds_mean_deviation_and_the_best_setting(done):
    (plot,) = score_plots(make_table(done(AB)))
    axes = drawn(plot)
    shown = [(line.get_xdata(), line.get_ydata()[0]) for line in axes.lines]
    for row, first in enumerate((10, 20)):
        deviations, seeds, mean = [x for x, y in shown if y == row]
        assert list(seeds) == [first, first + 1] and list(mean) == [first + 0.5]
        assert list(deviations) == pytest.approx([first + 0.5 - 0.5**0.5, first + 0.5 + 0.5**0.5])
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == ["a", "b"]
    assert [label.get_weight() for label in labels] == ["normal", "bold"]
    assert axes.yaxis_inverted()  # the first setting at the top


def test_a_single_score_without_deviation_is_drawn(done):
    (plot,) = score_plots(make_table(done({"a": ()}, seeds=(0,))))
    assert [list(line.get_xdata()) for line in drawn(plot).lines] == [[10], [10]]


@pytest.fixture
def write(html_page):
    """Writes a sweep's report and reads its page."""

    def run(made, failures=()):
        path = write_report(made, make_table(made), failures)
        return html_page.Page(path.read_text(encoding="utf-8"))

    return run


def test_the_page_needs_nothing_from_outside(write, done):
    write(done(AB)).assert_self_contained()


def test_the_page_tells_scores_settings_and_failures(write, done, tmp_path):
    made = done(AB)
    failure = TrialFailure("b, seed 7", "ValueError: unlucky", tmp_path / "log.txt")
    page = write(made, [failure])
    text = " ".join(page.text.split())
    assert "10.50 ± 0.71" in text and "20.50 ± 0.71" in text
    assert "--config.flow.draws=4" in text and f"--config.train.steps={STEPS}" in text
    assert "1 failed" in text and "b, seed 7: ValueError: unlucky" in text
    best = [a for tag, a in page.tags if tag == "td" and a.get("class") == "best"]
    assert [cell["data-value"] for cell in best] == ["20.5"]
    assert "failed" not in write(made).text


def test_scores_of_named_evaluations_and_of_extensions_are_columns_of_the_page(write, done):
    made = done(AB, more={"eval/streets/error": 3.0, "eval/colour<fulness>": 0.25})
    page = write(made)
    headings = "seeds Quality dB ↑ streets: Error levels² ↓ colour<fulness> a"
    assert headings in " ".join(page.text.split())
    values = [a.get("data-value") for tag, a in page.tags if tag == "td"]
    assert values.count("3.0") == 2 and values.count("0.25") == 2


def test_names_cannot_inject_markup(write, done, tmp_path):
    evil = '"><script>alert(1)</script>'
    made = done({evil: ()}, title=evil)
    page = write(made, [TrialFailure(evil, evil, tmp_path)])
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert evil in page.text


def test_files_for_programs_lie_beside_the_page(write, done):
    made = done(AB)
    write(made)
    found = {path.name for path in made.folder.iterdir() if path.is_file()}
    assert found == {"sweep.html", "table.csv", "table.md", "trials.csv"}


def test_a_sweep_that_has_not_begun_still_has_a_page(write, plan):
    page = write(plan())
    assert "0 of 4" in page.text and not any(tag == "svg" for tag, _ in page.tags)
