"""Metrics as TensorBoard events.

The file format is that of TensorFlow's records: length, checksum, event, checksum.  `SummaryWriter`
of tensorboardX writes in a thread that ends silently at a full disk, and cannot write to a bucket.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditfuse_jax.paths import is_remote
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers.appended import Appended, AppendedFile, AppendedParts
from ditfuse_jax.train.writers.background import Background
from ditfuse_jax.train.writers.writer import Writer


class TensorBoardWriter:
    """Writes an event per call."""

    name = "tensorboard"

    def __init__(self, file: Appended, step: int):
        """Starts to write.

        Args:
          file: begins with the version of the format; closed with the writer.
          step: that the run continues from.  TensorBoard hides the events of later steps that
            earlier files hold, which the run records again.
        """
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        self._file = file
        file.append(_record(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Writer`."""
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.summary import scalar

        values = [value for name, x in scalars.items() for value in scalar(name, x).value]
        self._file.append(_record(step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Writes what is only in memory."""
        self._file.flush()

    def close(self) -> None:
        """See `Writer`."""
        self._file.close()


def open_tensorboard(run: RunFolder, config: Mapping[str, Any]) -> Writer:
    """Opens a new file of events in the folder `tensorboard` of a run, or in a bucket a series."""
    del config
    name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{run.start:06d}"
    header = _record(file_version="brain.Event:2")
    if not is_remote(run.path):
        return TensorBoardWriter(AppendedFile(run.tensorboard / name, header), run.step)

    def part(number: int) -> Path:
        return run.tensorboard / f"{name}.{number:06d}"

    def open_parts() -> TensorBoardWriter:
        return TensorBoardWriter(AppendedParts(part, header, run.is_owned), run.step)

    return Background("tensorboard", open_parts)


def _record(**fields: Any) -> bytes:
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    def checksum(data: bytes) -> bytes:
        crc = crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    event = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(event))
    return length + checksum(length) + event + checksum(event)
