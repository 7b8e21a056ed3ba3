"""Events that TensorBoard reads."""

import struct

import google_crc32c
import pytest
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers.appended import AppendedParts
from ditfuse_jax.train.writers.tensorboard import TensorBoardWriter, open_tensorboard


def events(data):
    """Reads TensorFlow's records; checks their checksums with another implementation."""

    def check(content, checksum):
        crc = google_crc32c.value(content)
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
        assert struct.unpack("<I", checksum) == (masked,)

    found = []
    while data:
        check(data[:8], data[8:12])
        (length,) = struct.unpack("<Q", data[:8])
        event, data = data[12 : 12 + length], data[12 + length :]
        check(event, data[:4])
        data = data[4:]
        found.append(Event.FromString(event))
    return found


def scalars(found):
    return [
        (event.step, value.tag, value.simple_value)
        for event in found
        for value in event.summary.value
    ]


RECORDS = [(1, {"loss": 0.5, "eval/PSNR clean": 20.25}), (3, {"loss": float("nan")}), (3, {"x": 2})]


def test_the_scalars_are_those_that_tensorboardx_writes(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.step = 7
    writer = open_tensorboard(run, {})
    reference = SummaryWriter(str(tmp_path / "reference"))
    for step, values in RECORDS:
        writer.write(step, values)
        for name, value in values.items():
            reference.add_scalar(name, value, step)
    writer.close()
    reference.close()
    (own,) = (tmp_path / "run" / "tensorboard").iterdir()
    (other,) = (tmp_path / "reference").iterdir()
    assert "tfevents" in own.name
    found, expected = events(own.read_bytes()), events(other.read_bytes())
    assert repr(scalars(found)) == repr(scalars(expected))
    assert found[0].file_version == expected[0].file_version == "brain.Event:2"
    # TensorBoard hides what earlier files hold of these steps.
    assert (found[1].step, found[1].session_log.status) == (8, SessionLog.START)


def test_each_part_of_a_series_can_be_read_alone_and_only_the_first_starts_a_session(tmp_path):
    from ditfuse_jax.train.writers import appended

    pytest.MonkeyPatch().setattr(appended, "PART_BYTES", 100)
    from ditfuse_jax.train.writers.tensorboard import _record

    parts = AppendedParts(lambda n: tmp_path / f"{n:06d}", _record(file_version="brain.Event:2"))
    writer = TensorBoardWriter(parts, 0)
    for step in range(10):
        writer.write(step, {"loss": 1.0, "grad_norm": 2.0})
        writer.flush()
    writer.close()
    read = [events(path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    assert len(read) > 3
    assert all(part[0].file_version for part in read)
    assert [e.HasField("session_log") for part in read for e in part].count(True) == 1
    assert [step for part in read for step, tag, _ in scalars(part) if tag == "loss"] == list(
        range(10)
    )
