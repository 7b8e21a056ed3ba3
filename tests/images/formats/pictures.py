"""A small smooth picture with alpha, and files of formats that no library here writes."""

import struct

import cv2
import numpy as np

HEIGHT, WIDTH = 24, 40


def picture(channels=3, seed=0):
    """Float32 (H, W, C), or (H, W) of one channel, from 0 to 1."""
    noise = np.random.default_rng(seed).random((HEIGHT, WIDTH, channels)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3).reshape(HEIGHT, WIDTH, channels)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return smooth[..., 0] if channels == 1 else smooth


def whole(image, bits):
    """The picture as whole numbers of so many bits."""
    return np.rint(image * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def flir_jpeg(jpeg, counts, *, order="<", header=">", record=None, segment=60_000):
    """A radiometric JPEG: the FFF file in numbered APP1 segments behind the start of a JPEG.

    `order` is that of the record, `header` that of the FFF file; `record` replaces the counts.
    """
    height, width = counts.shape
    body = struct.pack(f"{order}16H", 2, width, height, 0, 0, 0, width - 1, *[0] * 9)
    body += counts.astype(f"{order}u2").tobytes() if record is None else record
    head = b"FFF\0" + b"MTX IR\0".ljust(16, b"\0") + struct.pack(f"{header}4I", 100, 64, 2, 3)
    head = head.ljust(64, b"\0")
    rows = [(0x20, 1, 0x65, 1, 64 + 64, 0), (1, 2, 0x65, 1, 64 + 64, len(body))]
    rows = b"".join(struct.pack(f"{header}2H4I", *row).ljust(32, b"\0") for row in rows)
    fff = head + rows + body
    parts = [fff[at : at + segment] for at in range(0, len(fff), segment)]
    inserted = b"".join(
        b"\xff\xe1"
        + struct.pack(">H", len(part) + 10)
        + b"FLIR\0\x01"
        + bytes([number, len(parts) - 1])
        + part
        for number, part in enumerate(parts)
    )
    return jpeg[:2] + inserted + jpeg[2:]


def rgbe(image):
    """Float (H, W, 3) as bytes (H, W, 4): mantissas and a common exponent (Ward, 1991)."""
    largest = image.max(axis=-1)
    mantissa, exponent = np.frexp(largest)
    scale = np.where(largest > 1e-32, mantissa * 256 / np.maximum(largest, 1e-38), 0)
    coded = np.concatenate([image * scale[..., None], (exponent + 128)[..., None]], axis=-1)
    return np.where(largest[..., None] > 1e-32, coded, 0).astype(np.uint8)
