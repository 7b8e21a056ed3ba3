"""The page: complete, self-contained, safe; its curves and bars where the numbers are."""

import json

import pytest

from ditfuse_jax.evaluate.reports.curves import HEIGHT, WIDTH
from ditfuse_jax.sweep.local import Failure
from ditfuse_jax.sweep.plots import bars, curves
from ditfuse_jax.sweep.report import write_report
from ditfuse_jax.sweep.table import make_table

STEPS = 4


def points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())]


@pytest.fixture
def done(plan):
    """A plan whose trainings end at quality 10 x setting + seed, rising from half of it."""

    def build(settings, lengths=(), **changes):
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
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (training.folder / "metrics.jsonl").write_text(text)
        return made

    return build


AB = {"a": ("--config.flow.draws=1",), "b": ("--config.flow.draws=4",)}


def test_a_curve_is_the_mean_of_the_seeds_and_its_band_reaches_to_all_of_them(done):
    loss, quality = curves(done(AB))
    assert loss.title.startswith("loss") and quality.title == "Quality"
    line = quality.lines[1]
    mean, band = points(line.mean), points(line.band)
    assert [x for x, _ in mean] == pytest.approx([i * WIDTH / 3 for i in range(4)], abs=0.06)
    low, high = band[: len(mean)], band[: len(mean) - 1 : -1]
    for (x, y), (left, below), (right, above) in zip(mean, low, high, strict=True):
        assert x == left == right
        assert y == pytest.approx((below + above) / 2, abs=0.11)  # two seeds: the mean is midway
        assert 0 <= above < y < below <= HEIGHT
    assert mean[-1][1] < points(quality.lines[0].mean)[-1][1]  # better is higher up


def test_a_seed_that_came_less_far_does_not_make_the_mean_jump(done):
    # Seed 1, the better one, has two of four steps.
    made = done(AB, lengths=(STEPS, 2))
    quality = curves(made)[1]
    short = points(quality.lines[0].band)
    assert len(short) == 2 * STEPS
    assert short[2] == short[5]  # from step 3 on one seed is left: the band has no height


def test_settings_that_share_a_training_have_one_curve(done):
    sampled = {f"{n} steps": (f"--config.sample.steps={n}",) for n in (2, 8)}
    made = done(sampled, evaluate=("--data", "x"))
    assert [len(panel.lines) for panel in curves(made)] == [1, 1]


def test_bars_stand_where_the_scale_says(done):
    (picture,) = bars(make_table(done(AB)))
    marks = {tick.label: tick.position for tick in picture.ticks}
    assert picture.bars[0].seeds[0] == pytest.approx(marks["10"])
    assert picture.bars[1].seeds[0] == pytest.approx(marks["20"])
    for bar in picture.bars:
        assert 0 <= bar.low < bar.mean < bar.high <= WIDTH
        assert bar.mean == pytest.approx(sum(bar.seeds) / 2)
    assert [bar.best for bar in picture.bars] == [False, True]


def test_equal_scores_can_be_drawn(done):
    (picture,) = bars(make_table(done({"a": ()}, seeds=(0,))))
    (bar,) = picture.bars
    assert 0 < bar.low == bar.mean == bar.high < WIDTH


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
    failure = Failure("b, seed 7", "ValueError: unlucky", tmp_path / "log.txt")
    page = write(made, [failure])
    text = " ".join(page.text.split())
    assert "10.50 ± 0.71" in text and "20.50 ± 0.71" in text
    assert "--config.flow.draws=4" in text and f"--config.train.steps={STEPS}" in text
    assert "1 failed" in text and "b, seed 7: ValueError: unlucky" in text
    best = [a for tag, a in page.tags if tag == "td" and a.get("class") == "best"]
    assert [cell["data-value"] for cell in best] == ["20.5"]
    assert "failed" not in write(made).text


def test_names_cannot_inject_markup(write, done, tmp_path):
    evil = '"><script>alert(1)</script>'
    made = done({evil: ()}, title=evil)
    page = write(made, [Failure(evil, evil, tmp_path)])
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert evil in page.text


def test_files_for_programs_lie_beside_the_page(write, done):
    made = done(AB)
    write(made)
    found = {path.name for path in made.folder.iterdir() if path.is_file()}
    assert found == {"sweep.html", "table.csv", "table.md", "runs.csv"}


def test_a_sweep_that_has_not_begun_still_has_a_page(write, plan):
    page = write(plan())
    assert "0 of 4" in page.text and not any(tag == "svg" for tag, _ in page.tags)
