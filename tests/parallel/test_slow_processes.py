"""Which processes are reported as slow, from simulated times."""

import pytest

from ditfuse_jax.parallel import slow_processes
from ditfuse_jax.parallel.slow_processes import StepTimes


def windows(step: float, own: list[dict[str, float]], count: int = 1) -> list[list]:
    """Returns what is found in each window if each process's own times per step are `own`."""
    times, found, now, steps = StepTimes(), [], 0.0, 0
    for _ in range(count + 1):
        for index, parts in enumerate(own):
            times.add(index, now, steps, {kind: steps * each for kind, each in parts.items()})
        found.append(times.find(now))
        now += slow_processes.WINDOW
        steps += int(slow_processes.WINDOW / step)
    return found[1:]


FAST = {"data": 0.02, "other": 0.01}


def test_a_process_that_waits_for_data_while_others_wait_for_it_is_found_with_the_reason():
    ((slow,),) = windows(1.0, [FAST, FAST, {"data": 0.8, "other": 0.1}, FAST])
    assert slow.index == 2 and slow.reason == "data"
    assert slow.seconds == pytest.approx(0.8)
    assert slow.own == pytest.approx(0.9)
    assert slow.median == pytest.approx(0.03)


@pytest.mark.parametrize(
    "own",
    [
        [FAST] * 4,
        [{"data": 0.9}] * 4,  # all alike: the data is slow, no process
        [{"data": 0.3}, {"data": 0.01}],  # most of the step the devices work
        [{"data": 0.9}],  # nobody to compare with
        [{"data": 0.9}, {"data": 0.5}],  # less than the factor
    ],
    ids=["equal", "all slow", "hidden by the devices", "alone", "similar"],
)
def test_nothing_is_found_if_no_process_delays_the_others(own):
    assert windows(1.0, own) == [[]]


def test_of_two_processes_the_slow_one_is_found():
    ((slow,),) = windows(1.0, [{"data": 0.01}, {"data": 0.95}])
    assert slow.index == 1


def test_a_process_that_stays_slow_is_found_after_1_2_4_8_windows():
    found = windows(1.0, [FAST, {"data": 0.9}, FAST], count=9)
    assert [number for number, slow in enumerate(found, 1) if slow] == [1, 2, 4, 8]


def test_a_single_slow_batch_in_a_window_is_not_enough():
    times = StepTimes()
    for now, steps, data in ((0.0, 0, 0.0), (30.0, 30, 20.0), (60.0, 60, 20.3)):
        times.add(0, now, steps, {"data": steps * 0.01})
        times.add(1, now, steps, {"data": data})
        assert times.find(now) == []


def test_long_steps_are_compared_once_there_are_three():
    times = StepTimes()
    for now, steps in ((0.0, 0), (60.0, 1), (120.0, 2), (180.0, 3)):
        times.add(0, now, steps, {"data": 0.0})
        times.add(1, now, steps, {"data": 55.0 * steps})
        assert [slow.index for slow in times.find(now)] == ([1] if steps == 3 else [])


def test_a_process_may_say_nothing_of_itself_before_it_trains():
    times = StepTimes()
    for index in range(2):
        times.add(index, 0.0, 0, {})
    assert times.find(0.0) == []
    for index, data in enumerate((1.0, 55.0)):
        times.add(index, 60.0, 60, {"data": data})
    assert [slow.index for slow in times.find(60.0)] == [1]
