"""Joining videos that `VideoWriter` encoded one after the other, without encoding them again."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ditfuse_jax.errors import UserError
from ditfuse_jax.images.video_pixels import pyav
from ditfuse_jax.images.video_writer import choose_encoding, new_video_file, write_error


def join_videos(
    parts: Sequence[Path],
    path: Path,
    times: np.ndarray,
    time_base: Fraction,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Joins videos of `VideoWriter` without encoding them again.

    Args:
      parts: files of the format of `path`, in order.
      path: the file to write.
      times: (N,) int64, when each frame is shown, in units of `time_base`.
      time_base: seconds.
      metadata: see `VideoWriter`.

    Raises:
      UserError: a part is damaged, they do not hold N frames, or the file cannot be written.
    """
    av = pyav()
    steps = np.diff(times)
    steps = np.append(steps, int(np.median(steps)) if len(steps) else 1)
    container = choose_encoding(path, (2, 2), 8).container
    done, stream, header = 0, None, None
    try:
        with new_video_file(path, container, metadata) as output:
            for part in parts:
                with av.open(str(part)) as read:
                    source = read.streams.video[0]
                    if stream is None:
                        stream = output.add_stream_from_template(source)
                        stream.time_base = time_base
                        header = source.codec_context.extradata
                    if source.codec_context.extradata != header:
                        raise UserError(f"{part}: was encoded otherwise than {parts[0]}: remove it")
                    for packet in read.demux(source):
                        if not packet.size:
                            continue
                        if done == len(times):
                            raise UserError(f"{part}: holds more frames than it should: remove it")
                        packet.stream = stream
                        packet.time_base = time_base
                        packet.pts = packet.dts = int(times[done] - times[0])
                        packet.duration = int(steps[done])
                        output.mux(packet)
                        done += 1
            if done != len(times):
                raise UserError(f"{path}: its parts hold {done} frames instead of {len(times)}")
    except (OSError, av.FFmpegError) as error:
        raise write_error(path, error) from error


def count_packets(path: Path) -> int:
    """Returns the number of frames in a video of `VideoWriter`; 0 if it cannot be read."""
    av = pyav()
    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (OSError, av.FFmpegError):
        return 0
