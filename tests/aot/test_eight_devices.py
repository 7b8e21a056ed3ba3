"""The real step and sampler, compiled for eight devices that a CPU pretends to have."""

import pytest

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def report(tmp_path_factory, on_eight_devices):
    """What `eight_devices.py` found."""
    return on_eight_devices("aot/eight_devices.py", str(tmp_path_factory.mktemp("compiled")))


@pytest.mark.parametrize("what", ["train", "sample"])
def test_the_second_time_nothing_is_compiled_and_everything_is_the_same(report, what):
    first, second = report[f"{what} first"], report[f"{what} second"]
    assert (first["cached"], second["cached"]) == (False, True)
    for name in ("bytes", "work", "collective_bytes", "roofline", "seconds"):
        assert first[name] == second[name]


@pytest.mark.parametrize("what", ["train", "sample"])
def test_no_loop_of_the_real_programs_is_of_unknown_length(report, what):
    assert report[f"{what} first"]["unknown_loops"] == []


def test_a_step_executes_its_model_flops_and_what_it_computes_again(report):
    step = report["train first"]
    # `full` computes the layers twice; text slots are padded; dense attention meets masked pairs.
    assert 1.0 < step["work"]["flops"] / step["model_flops"] < 6.0
    assert step["xla_flops"] < step["work"]["flops"]


def test_the_consumers_make_up_the_arguments(report):
    step = report["train first"]
    parts = step["consumers"]
    assert parts["moments"] == pytest.approx(2 * parts["parameters"], rel=0.01)
    given = ("parameters", "moments", "averaged parameters", "autoencoder", "batch")
    assert sum(parts[name] for name in given) == pytest.approx(step["bytes"]["argument"], rel=0.01)


def test_sharded_parameters_are_gathered(report):
    step = report["train first"]
    assert step["collective_bytes"]["all-gather"] > 7 * step["consumers"]["parameters"] / 2
    assert step["work"]["dcn"] == 0


def test_every_report_says_that_it_is_a_bound_and_no_measurement(report):
    for found in report.values():
        assert "not a measurement" in found["note"]
        assert any("bound, not a measurement" in line for line in found["lines"])
        assert max(found["roofline"]["seconds"].values()) == found["roofline"]["min_seconds"]
