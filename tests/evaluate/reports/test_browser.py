"""The report in a real browser: its script runs, sorts, draws and selects images."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from ditfuse_jax.evaluate.reports.page import RunInfo
from ditfuse_jax.evaluate.reports.report import write_report
from ditfuse_jax.evaluate.results import Results

EN, MSE = "EN", "MSE"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]

# Uses the page like a reader and records what it shows.
READER = """
<script>
const seen = { errors: [] };
window.onerror = message => { seen.errors.push(message); };
window.onload = () => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const order = () => all(".scores tbody tr").map(row => row.cells[0].textContent);
  const headings = all(".scores thead tr:last-child th");
  seen.original = order();
  headings[1].click(); seen.falling = order();
  headings[1].click(); seen.rising = order();
  seen.images = all("circle.image").length;
  seen.pressed = all(".keys button").length;
  all(".keys button")[0].click(); seen.without = all("circle.image").length;
  const shown = () => all(".row").filter(row => !row.hidden).map(row => row.dataset.stem);
  const set = (selector, value) => {
    const select = document.querySelector(selector);
    select.value = value; select.dispatchEvent(new Event("change"));
  };
  seen.extremes = shown();
  set(".cases .metric", "%s"); seen.lowest = shown();
  set(".cases .order", "worst"); seen.worst = shown();
  set(".cases .order", "name"); seen.byName = shown();
  all(".row button")[1].click(); seen.open = document.querySelector(".viewer").open;
  const output = document.createElement("pre");
  output.id = "seen"; output.textContent = JSON.stringify(seen);
  document.body.append(output);
};
</script>
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    values = {f"s{i}": i for i in range(9)}
    results = Results(
        {
            stem: {
                EN: {"One": 7 - i / 10, "Two": 5.0, "mean": 6.0},
                MSE: {"One": 100.0 * (i * 4 % 9), "Two": 9.0, "mean": 8.0},
            }
            for stem, i in values.items()
        }
    )
    image = np.zeros((8, 8, 3), np.uint8)
    pictures = ((stem, {"View A": image, "One": image}) for stem in values)
    path = write_report(folder, results, pictures, RunInfo(title="</script><b>"))
    page = path.read_text(encoding="utf-8").replace("<main>", READER % MSE + "<main>", 1)
    path.write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    profile = f"--user-data-dir={folder / 'profile'}"
    shown = subprocess.run(
        [BROWSER, *options, profile, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    output = re.search(r'<pre id="seen">(.*?)</pre>', shown, re.DOTALL)
    assert output, "the page's script did not run to its end"
    return json.loads(output[1])


def test_the_script_runs_without_errors(seen):
    assert seen["errors"] == []


def test_a_click_on_a_heading_sorts_and_another_reverses(seen):
    assert seen["original"] == ["One", "Two", "mean"]
    assert seen["falling"] == ["One", "mean", "Two"]
    assert seen["rising"] == ["Two", "mean", "One"]


def test_the_scatter_plot_has_a_point_per_image_and_method_that_is_not_hidden(seen):
    assert seen["images"] == 27 and seen["pressed"] == 3 and seen["without"] == 18


def test_worst_and_best_follow_the_metric_and_its_direction(seen):
    assert seen["extremes"] == ["s8", "s7", "s6", "s0", "s1", "s2"]
    # MSE of s0..s8 is 0 4 8 3 7 2 6 1 5: lower is better.
    assert seen["lowest"] == ["s2", "s4", "s6", "s0", "s7", "s5"]
    assert seen["worst"] == ["s2", "s4", "s6", "s8", "s1", "s3", "s5", "s7", "s0"]
    assert seen["byName"] == [f"s{i}" for i in range(9)]


def test_a_picture_opens_enlarged(seen):
    assert seen["open"]
