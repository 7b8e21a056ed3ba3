"""Requests to stop, outside the main thread too."""

import signal
import threading

from ditfuse_jax.parallel.activity import Requests
from ditfuse_jax.train.signals import StopSignal


def test_in_another_thread_training_runs_without_stop_signals():
    before, found = signal.getsignal(signal.SIGTERM), []

    def run():
        with Requests().accepted():
            stop = StopSignal()
        found.append(stop.requested(1))
        stop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGTERM) is before
