"""Makes a sequence of two cameras from one pair of photographs, as folders or videos.

    python data/build_sequence.py VIS.png IR.png -o OUT --frames 48 --depth 14 --motion 3 --video

There are few public sequences of registered cameras.  This one has what disturbs a fusion of
sequences: noise of its own in every frame, a slow change of the light, a hot object that crosses
the scene and, with `--motion`, a moving camera.  Sources, noise and object are the same for equal
arguments.  `vis` has 8 bits; `ir` has 8, or counts of a thermal camera with 14.
"""

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ditfuse_jax.images import read_image, resize_image, write_image
from ditfuse_jax.images.video_pixels import pyav

_OBJECT = 0.12  # side of the moving object, in shares of the height
_HOT = 235  # its value in the infrared image
_COUNTS = (7000.0, 6.0)  # of the thermal camera: those of black, and per 8-bit value
_COUNT_NOISE = 8.0  # standard deviation in counts


def make_frames(
    vis: np.ndarray,
    ir: np.ndarray,
    frames: int,
    *,
    size: tuple[int, int] = (480, 640),
    depth: int = 8,
    motion: float = 0.0,
    noise: float = 2.0,
    light: float = 0.03,
    moving_object: bool = True,
    seed: int = 0,
):
    """Yields (vis, ir) of each frame: uint8 (H, W, 3), and uint8 (H, W, 3) or uint16 (H, W).

    Args:
      vis, ir: registered photographs, uint8 (h, w, 3); scaled so that they hold all crops.
      frames: how many.
      size: (height, width) of a frame.
      depth: 8, or 14 for counts of a thermal camera.
      motion: pixels per frame that the camera moves sideways, back and forth.
      noise: standard deviation of the visible camera's noise, in 8-bit values.
      light: relative change of the visible light, over a period of 48 frames.
      moving_object: whether a hot object crosses the scene.
      seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    room = int(np.ceil(min(abs(motion) * frames, width / 3)))
    scale = max((height + 8) / vis.shape[0], (width + room) / vis.shape[1])
    tall, wide = (int(np.ceil(side * scale)) for side in vis.shape[:2])
    vis, ir = (resize_image(image, tall, wide).astype(np.float32) for image in (vis, ir))
    grey = ir.mean(axis=2)
    side = int(_OBJECT * height)
    texture = cv2.resize(vis[:side, :side], (side, 2 * side))
    for number in range(frames):
        place = abs(motion) * number
        left = round(room - abs(place % (2 * room) - room)) if room else 0
        row = (tall - height) // 2
        window = slice(row, row + height), slice(left, left + width)
        seen, warm = vis[window].copy(), grey[window].copy()
        if moving_object:
            at = int((number * 4) % (width - side))
            body = slice(height // 2, height // 2 + 2 * side), slice(at, at + side)
            seen[body] = 0.3 * texture[: seen[body].shape[0]]
            warm[body] = _HOT
        seen *= 1 + light * np.sin(2 * np.pi * number / 48)
        seen += rng.normal(0, noise, seen.shape)
        first = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
        if depth == 8:
            warm += rng.normal(0, noise, warm.shape)
            second = np.clip(np.rint(warm), 0, 255).astype(np.uint8)
            yield first, np.repeat(second[..., None], 3, axis=2)
        else:
            counts = _COUNTS[0] + _COUNTS[1] * warm + rng.normal(0, _COUNT_NOISE, warm.shape)
            yield first, np.clip(np.rint(counts), 0, 2**14 - 1).astype(np.uint16)


def write_video(path: Path, frames: list[np.ndarray], rate: Fraction) -> None:
    """Writes frames without loss (FFV1): colour with 8 bits, or grey with 16."""
    av = pyav()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "gray16le" if frames[0].ndim == 2 else "bgr0"
        for image in frames:
            kind = "gray16le" if image.ndim == 2 else "rgb24"
            frame = av.VideoFrame.from_ndarray(image, format=kind)
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("vis", type=Path)
    parser.add_argument("ir", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--size", default="640x480", metavar="WIDTHxHEIGHT")
    parser.add_argument("--depth", type=int, choices=(8, 14), default=8)
    parser.add_argument("--motion", type=float, default=0.0, help="pixels per frame")
    parser.add_argument("--video", action="store_true", help="vis.mkv and ir.mkv, not folders")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    made = make_frames(
        read_image(args.vis),
        read_image(args.ir),
        args.frames,
        size=(height, width),
        depth=args.depth,
        motion=args.motion,
    )
    args.output.mkdir(parents=True, exist_ok=True)
    if args.video:
        first, second = zip(*made, strict=True)
        write_video(args.output / "vis.mkv", list(first), Fraction(25))
        write_video(args.output / "ir.mkv", list(second), Fraction(25))
        return
    for name in ("vis", "ir"):
        (args.output / name).mkdir(exist_ok=True)
    for number, images in enumerate(made):
        for name, image in zip(("vis", "ir"), images, strict=True):
            path = args.output / name / f"{number:04d}.png"
            if image.ndim == 2:
                cv2.imwrite(str(path), image)
            else:
                write_image(path, image)


if __name__ == "__main__":
    main()
