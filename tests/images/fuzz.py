"""Files for fuzzing the decoder: valid files of every kind, and ways to damage them.

`python tests/images/fuzz.py --minutes 60` decodes damaged files in child processes, so that a
crash of a native decoder, a hang and a flood of memory are found as well as a wrong exception.
"""

import argparse
import contextlib
import importlib.util
import io
import multiprocessing
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import decode_image, decode_labels

MAX_PIXELS = 1_000_000
SECONDS_PER_CASE = 20
MEMORY = 3 << 30


def corpus() -> dict[str, bytes]:
    """Small valid files: formats x pixel types x ways to compress."""
    rng = np.random.default_rng(0)
    smooth = np.clip(np.add.outer(np.arange(33), np.arange(29)) * 4, 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, smooth.shape, dtype=np.uint8)
    rgb = Image.fromarray(np.stack([smooth, smooth[::-1], noise], axis=-1))
    images = {mode: rgb.convert(mode) for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK")}
    images["I;16"] = Image.fromarray(smooth.astype(np.uint16) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    options = [
        *(("PNG", mode, {}) for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "RGB", {"exif": exif, "dpi": (72, 72)}),
        *(("JPEG", mode, {"quality": 80}) for mode in ("L", "RGB", "CMYK")),
        ("JPEG", "RGB", {"progressive": True, "exif": exif}),
        ("JPEG", "RGB", {"subsampling": 0, "optimize": True, "comment": b"c"}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True, "exif": exif}),
        ("GIF", "P", {}),
        ("AVIF", "RGBA", {"exif": exif}),
        *(("TIFF", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16")),
        *(
            ("TIFF", "RGB", {"compression": name, "exif": exif})
            for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ),
        ("TIFF", "1", {"compression": "group4"}),
        *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    ]
    files = {}
    for number, (image_format, mode, how) in enumerate(options):
        stream = io.BytesIO()
        images[mode].save(stream, image_format, **how)
        files[f"{number} {image_format} {mode}"] = stream.getvalue()
    return files | _other_files(smooth, np.asarray(rgb))


def _other_files(grey: np.ndarray, rgb: np.ndarray) -> dict[str, bytes]:
    """Files of formats that Pillow does not read, as far as their libraries are installed."""
    files = {"radiance": cv2.imencode(".hdr", np.float32(rgb / 255))[1].tobytes()}
    for name, values in {"int16": np.int16(grey) - 99, "float16": np.float16(grey / 99)}.items():
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, photometric="minisblack", compression="zlib")
        files[f"TIFF {name}"] = stream.getvalue()
    spec = importlib.util.spec_from_file_location(
        "pictures", Path(__file__).parent / "formats" / "pictures.py"
    )
    assert spec is not None and spec.loader is not None
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    jpeg = io.BytesIO()
    Image.fromarray(rgb).save(jpeg, "JPEG")
    files["flir"] = pictures.flir_jpeg(jpeg.getvalue(), np.uint16(grey) * 40, segment=700)
    with contextlib.suppress(ImportError):
        import imagecodecs
        import pillow_jxl  # noqa: F401  registers itself

        files["avif 10"] = imagecodecs.avif_encode(np.uint16(rgb) * 4, bitspersample=10)
        files["jpeg xl"] = imagecodecs.jpegxl_encode(rgb)
        files["jpeg xl 16"] = imagecodecs.jpegxl_encode(np.uint16(rgb) * 257, lossless=True)
        stream = io.BytesIO()
        tifffile.imwrite(stream, rgb, photometric="rgb", compression="zstd")
        files["TIFF zstd"] = stream.getvalue()
    with contextlib.suppress(ImportError):
        import pillow_heif

        stream = io.BytesIO()
        size = (rgb.shape[1], rgb.shape[0])
        pillow_heif.from_bytes("RGB", size, rgb.tobytes()).save(stream)
        files["heif"] = stream.getvalue()
    with contextlib.suppress(ImportError):
        import OpenEXR

        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "x.exr"))
            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            with OpenEXR.File(header, {"RGB": np.float32(rgb / 255)}) as file:
                file.write(path)
            files["openexr"] = Path(path).read_bytes()
    with contextlib.suppress(ImportError):
        import pydicom
        from pydicom import uid
        from pydicom.dataset import FileMetaDataset

        data = pydicom.Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2")
        data.SOPClassUID, data.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2"
        data.Rows, data.Columns = grey.shape
        data.SamplesPerPixel, data.PixelRepresentation = 1, 0
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.PixelData = (np.uint16(grey) * 9).tobytes()
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, data, enforce_file_format=True)
        files["dicom"] = stream.getvalue()
    return files


_WORDS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0"]


def damage(data: bytes, others: list[bytes], random_: random.Random) -> bytes:
    """Applies one to six random edits to a file."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 6))):
        # Damage to headers matters most: half of the edits are among the first bytes.
        reach = len(changed) if random_.random() < 0.5 else min(len(changed), 120)
        at = random_.randrange(max(reach, 1))
        kind = random_.randrange(8)
        if kind == 0 and changed:
            changed[at] ^= 1 << random_.randrange(8)
        elif kind == 1 and changed:
            changed[at] = random_.randrange(256)
        elif kind == 2:
            changed[at : at + 4] = random_.choice(_WORDS)
        elif kind == 3:
            word = struct.pack(random_.choice("<>") + "H", random_.randrange(1 << 16))
            changed[at : at + 2] = word
        elif kind == 4:
            del changed[at : at + random_.randrange(1, 40)]
        elif kind == 5:
            changed[at:at] = random_.randbytes(random_.randrange(1, 40))
        elif kind == 6:
            del changed[at:]
        else:
            other = random_.choice(others)
            start = random_.randrange(len(other))
            changed[at:at] = other[start : start + random_.randrange(1, 200)]
    result = bytes(changed)
    # With corrected checksums: otherwise most damage to a PNG ends at the first one.
    return mend_checksums(result) if random_.random() < 0.7 else result


def mend_checksums(data: bytes) -> bytes:
    """Corrects the checksums of a PNG's chunks; other files are unchanged."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts) + data[at:]


def check(data: bytes) -> bool:
    """Decodes a file; True for an image, False for a `UserError`; anything else is a failure."""
    refused = False
    for decode in (decode_labels, decode_image):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = decode(data, "name", max_pixels=MAX_PIXELS)
        except UserError as error:
            message = str(error)
            assert message.startswith("name: ") and "\n" not in message, message
            refused = False
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, image.shape
            assert image.shape[0] * image.shape[1] > 0, image.shape
            refused = True
    return refused


def work(seed: int, seconds: float, where: str, counts) -> None:
    """Decodes until the time is over; the current file is in `where` in case of a crash."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    random_, files = random.Random(seed), list(corpus().values())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = damage(random_.choice(files), files, random_)
        Path(where).write_bytes(data)
        started = time.monotonic()
        try:
            counts[int(check(data))] += 1
        except BaseException:
            traceback.print_exc()
            Path(f"{where}.{counts[2]}.bad").write_bytes(data)
            counts[2] += 1
        if time.monotonic() - started > 2:
            Path(f"{where}.{counts[3]}.slow").write_bytes(data)
            counts[3] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("fuzz"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    totals, deaths, seed = [0, 0, 0, 0], 0, args.seed
    while (left := end - time.monotonic()) > 0:
        where = str(args.folder / f"case-{seed}")
        counts = multiprocessing.Array("L", 4)
        child = multiprocessing.Process(target=work, args=(seed, min(left, 60), where, counts))
        child.start()
        child.join(min(left, 60) + SECONDS_PER_CASE)
        if child.is_alive():
            child.kill()
            child.join()
        if child.exitcode != 0:
            deaths += 1
            Path(where).rename(f"{where}.death")
            print(f"a process ended with {child.exitcode}: {where}.death", flush=True)
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        seed += 1
        print(
            f"{sum(totals[:2])} cases: {totals[1]} images, {totals[0]} refused, {totals[2]} wrong, "
            f"{totals[3]} slow, {deaths} deaths",
            flush=True,
        )
    return int(bool(totals[2] or totals[3] or deaths))


if __name__ == "__main__":
    sys.exit(main())
