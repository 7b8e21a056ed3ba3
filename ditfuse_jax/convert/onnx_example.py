"""Fuse two photographs of one scene with NumPy, Pillow and onnxruntime.

python example.py A.png B.png -o FUSED.png --task mff
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]
from PIL import Image, ImageOps

HERE = Path(__file__).parent
OVERLAP = 0.25  # of a tile's side, at least


class Fuser:
    def __init__(self, model=HERE / "model.onnx", threads=0):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self.settings = json.loads((HERE / "settings.json").read_text())
        self.prompts = json.loads((HERE / "prompts.json").read_text(encoding="utf-8"))

    def __call__(self, a, b, task="fuse", seed=0, noise=None):
        """Fuses two uint8 images (H, W, 3); `noise`, of the padded size, replaces the seed's."""
        settings, height, width = self.settings, *a.shape[:2]
        tile, multiple = settings["tile"], settings["multiple"]
        # The model sees whole tiles: smaller sides are mirrored up to one.
        low, high = (max(-(-side // multiple) * multiple, tile) for side in (height, width))
        borders = [(0, low - height), (0, high - width), (0, 0)]
        padded = np.stack([np.pad(image, borders, mode="symmetric") for image in (a, b)])
        sources = padded.astype(np.float32) / np.float32(127.5) - np.float32(1)
        if noise is None:
            noise = np.random.default_rng(seed).standard_normal(sources.shape[1:], np.float32)
        prompt, times = self.prompts[task], np.array(settings["times"], np.float32)
        steps, x = settings["global_steps"], noise
        if steps and min(low, high) > tile:  # the first steps see the whole scene
            small = global_size((low, high), tile, settings["patch"])
            start = noise[: small[0], : small[1]]
            whole = self.sample(prompt, resize(sources, small), start, times)
            t, times = times[steps], times[steps:]
            x = t * resize(whole, (low, high)) + (1 - t) * noise
        x = self.sample(prompt, sources, x, times)[:height, :width]
        fused = np.clip(np.rint((x + 1) * np.float32(127.5)), 0, 255).astype(np.uint8)
        grey = all((image == image[..., :1]).all() for image in (a, b))
        rule = prompt["chroma"]
        if settings["limit_chroma"] and rule["limited"] and (grey or not rule["only_grey"]):
            fused = limit_chroma(fused, (a, b), rule["relative"])
        return fused

    def sample(self, prompt, sources, x, times):
        """Euler's method over tiles, whose velocities are blended at every step."""
        side, patch = self.settings["tile"], self.settings["patch"]
        ramp = (np.arange(side) + 0.5) / (side * OVERLAP)
        ramp = np.minimum(1, np.minimum(ramp, ramp[::-1])).astype(np.float32)
        window = np.outer(ramp, ramp)[..., None]
        places = [tile_starts(length, side, patch) for length in x.shape[:2]]
        text = {k: np.array([prompt[k]], d) for k, d in (("tokens", np.int32), ("valid", bool))}
        for step, t in enumerate(times[:-1]):
            total, weights = np.zeros_like(x), np.zeros((*x.shape[:2], 1), np.float32)
            for row, column in ((r, c) for r in places[0] for c in places[1]):
                here = np.s_[row : row + side, column : column + side]
                noisy = x[here]
                clean = self.session.run(
                    None,
                    {
                        **text,
                        "sources": sources[(np.s_[:], *here)][None],
                        "noisy": noisy[None],
                        "time": np.array([t], np.float32),
                    },
                )[0][0]
                total[here] += window * (clean - noisy) / max(1 - t, np.float32(1e-6))
                weights[here] += window
            x = x + (times[step + 1] - t) * (total / weights)
        return x


def tile_starts(length, side, patch):
    count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP))))
    return np.rint(np.linspace(0, (length - side) // patch, count)).astype(int) * patch


def global_size(size, side, patch):
    scale = side / min(size)
    return tuple(min(max(patch, round(x * scale / patch) * patch), x) for x in size)


def resize(images, size):
    """Resizes (..., H, W, C): a smaller pixel is the mean of those it covers, by a triangle."""
    for axis, new in ((-3, size[0]), (-2, size[1])):
        old = images.shape[axis]
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        distance = np.abs(centres[:, None] - np.arange(old)) / max(old / new, 1.0)
        share = np.maximum(0, 1 - distance)
        share = (share / share.sum(1, keepdims=True)).astype(np.float32)
        images = np.moveaxis(np.tensordot(share, images, (1, axis % images.ndim)), 0, axis)
    return images


def limit_chroma(image, sources, relative):
    """Reduces the chroma where no source has as much within a pixel; the luma stays."""

    def split(image):
        red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        return luma, np.stack([red - luma, blue - luma], axis=-1)

    (luma, chroma), limit = split(image), np.zeros(image.shape[:2], np.float32)
    for of_source, difference in map(split, sources):
        strength = np.hypot(*np.moveaxis(difference, -1, 0))
        strength *= np.maximum(1, luma / np.maximum(of_source, 16)) if relative else 1
        limit = np.maximum(limit, strength)
    edge = np.pad(limit, 1)
    height, width = image.shape[:2]
    near = [edge[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    limit, strength = np.max(near, axis=0), np.hypot(*np.moveaxis(chroma, -1, 0))
    chroma = chroma * (limit / np.maximum(strength, 1e-6))[..., None]
    red, blue = luma + chroma[..., 0], luma + chroma[..., 1]
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    limited = np.clip(np.rint(np.stack([red, green, blue], axis=-1)), 0, 255).astype(np.uint8)
    return np.where((strength > limit)[..., None], limited, image)


def load(path):
    """Reads an image of 8 bits, upright, transparent pixels on black: uint8 (H, W, 3)."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode[0] in "IF":
        raise SystemExit(f"{path}: more than 8 bits per channel; convert it to 8 first")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs=2)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--task", default="fuse", help="a key of prompts.json")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    a, b = map(load, args.images)
    if a.shape != b.shape:
        parser.error(f"the images have different sizes: {a.shape[:2]} and {b.shape[:2]}")
    fuser = Fuser()
    if args.task not in fuser.prompts:
        parser.error(f"--task {args.task} is unknown; choose from {', '.join(fuser.prompts)}")
    Image.fromarray(fuser(a, b, args.task, args.seed)).save(args.output)
