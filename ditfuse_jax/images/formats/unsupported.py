"""Kinds of files that are not read, recognised so that a message can say what to do with one."""

_FRAMES = "save its frames as images"
_AS_PNG = "export it as PNG or 16-bit TIFF"

# How a file begins: (position, bytes, what it is, what to do).
_KINDS = (
    (0, b"version https://git-lfs", "a pointer of Git LFS", "fetch the file with git lfs pull"),
    (0, b"%PDF", "a PDF document", "export the page as PNG"),
    (0, b"%!PS", "a PostScript document", "export the page as PNG"),
    (0, b"8BPS", "a Photoshop document", _AS_PNG),
    (0, b"gimp xcf", "a GIMP document", _AS_PNG),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000", _AS_PNG),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", _AS_PNG),
    (0, b"II\xbc", "JPEG XR", _AS_PNG),
    *((0, b"P%d" % kind, "a Netpbm image", _AS_PNG) for kind in range(1, 8)),
    (0, b"FFF\0", "a FLIR sequence or image", "export radiometric JPEG or 16-bit TIFF"),
    (0, b"SIMPLE  =", "a FITS file", "export the image as TIFF"),
    (344, b"n+1\0", "a NIfTI volume", "save the slice to fuse as 16-bit TIFF"),
    (0, b"\x93NUMPY", "a NumPy array", "save it as TIFF, or give the array from Python"),
    (0, b"\x89HDF", "an HDF5 file", "save its image as TIFF"),
    (0, b"MATLAB 5.0", "a MATLAB file", "save its image as TIFF"),
    (0, b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (8, b"AVI ", "a video", _FRAMES),
    (4, b"ftyp", "a video", _FRAMES),
    (0, b"\x1aE\xdf\xa3", "a video", _FRAMES),
    (0, b"\0\0\1\0", "an icon", _AS_PNG),
    *(
        (0, magic, "a TIFF file of an unusual layout", "save it with 8 or 16 bits, grey or RGB")
        for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    ),
    (0, b"DDS ", "a DDS texture", _AS_PNG),
)
_TEXTS = (
    (b"<svg", "an SVG drawing", "export it as PNG"),
    (b"<!doctype html", "a web page", "download the image itself"),
    (b"<html", "a web page", "download the image itself"),
)
HEAD = 1024  # bytes that `unsupported_kind` looks at


def unsupported_kind(head: bytes) -> tuple[str, str] | None:
    """Returns what a file is and what to do with it, from its first bytes; None if unknown."""
    for at, magic, kind, remedy in _KINDS:
        if head[at : at + len(magic)] == magic:
            # Letters alone may begin a text.
            if magic[:1] == b"P" and len(magic) == 2 and head[2:3] not in (b"\n", b" ", b"\r"):
                continue
            return kind, remedy
    text = head.lower()
    return next(((kind, remedy) for magic, kind, remedy in _TEXTS if magic in text), None)
