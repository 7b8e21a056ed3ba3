"""The training step and the sampler, compiled for eight simulated CPU devices."""

import pytest

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def report(tmp_path_factory, on_eight_devices):
    """Output of `eight_devices.py`."""
    return on_eight_devices("aot/eight_devices.py", str(tmp_path_factory.mktemp("compiled")))


@pytest.mark.parametrize("program", ["train", "sample"])
def test_the_second_report_is_equal_and_from_the_cache(report, program):
    first, second = report[f"{program} first"], report[f"{program} second"]
    assert (first["cached"], second["cached"]) == (False, True)
    for name in ("bytes", "work", "collective_bytes", "roofline", "seconds"):
        assert first[name] == second[name]


def test_a_samplers_report_has_its_sampling_settings_and_the_compiled_batch_size(report):
    facts = report["sample first"]["facts"]
    assert (facts["steps"], facts["solver"], facts["batch_size"]) == (3, "euler", 8)


@pytest.mark.parametrize("program", ["train", "sample"])
def test_every_loop_has_a_known_trip_count(report, program):
    assert report[f"{program} first"]["unknown_loops"] == []


def test_a_step_executes_its_model_flops_and_recomputation(report):
    step = report["train first"]
    # `full` recomputes the layers, text slots are padded, dense attention includes masked pairs.
    assert 1.0 < step["work"]["flops"] / step["model_flops"] < 6.0
    assert step["xla_flops"] < step["work"]["flops"]


def test_the_consumers_sum_to_the_arguments(report):
    step = report["train first"]
    parts = step["consumers"]
    assert parts["moments"] == pytest.approx(2 * parts["parameters"], rel=0.01)
    arguments = ("parameters", "moments", "averaged parameters", "autoencoder", "batch")
    assert sum(parts[name] for name in arguments) == pytest.approx(
        step["bytes"]["argument"], rel=0.01
    )


def test_sharded_parameters_are_gathered(report):
    step = report["train first"]
    assert step["collective_bytes"]["all-gather"] > 7 * step["consumers"]["parameters"] / 2
    assert step["work"]["dcn"] == 0


def test_every_report_states_that_it_is_not_a_measurement(report):
    for found in report.values():
        assert "not a measurement" in found["note"]
        assert any("bound, not a measurement" in line for line in found["lines"])
        assert max(found["roofline"]["seconds"].values()) == found["roofline"]["min_seconds"]
