"""Which process is named as the one that hangs."""

import json

import pytest

from ditfuse_jax.parallel import heartbeat


@pytest.mark.parametrize(
    "activities, named",
    [
        ([("step", 2.9), ("callback", 2.8)], None),
        # The others began to wait for it a little earlier than it began to hang.
        ([("step", 3.2), ("callback", 2.9)], None),
        ([("step", 3.3), ("callback", 3.1)], 1),
        ([("callback", 3.1), ("data", 3.3)], 1),
        # It works, and begins something new now and then, but never comes to the step.
        ([("step", 4.7), ("callback", 0.2)], 0),
        # Nobody works: a step itself hangs.
        ([("step", 3.1), ("end", 9.0)], 0),
    ],
)
def test_the_process_that_others_wait_for_is_named(activities, named):
    store = heartbeat.LocalStore()
    beating = heartbeat.Heartbeat("train", store, 0, 2)
    beating.stop_thread()
    beating.hang_timeout = 3.0
    for index, (doing, seconds) in enumerate(activities):
        beat = json.dumps([1, f"process {index}", doing, seconds, 0.0, 5, {}])
        store.key_value_set(f"ditfuse/beats/{index}", beat, allow_overwrite=True)
    stop = beating._check_others()
    assert (stop and stop.line.split(": ")[2][:9]) == (
        named if named is None else f"process {named}"
    )
