"""How images that are fused on eight devices differ from those of one; prints JSON."""

import json
import sys

import jax
import numpy as np

from ditfuse_jax import Fuser

SMALL, LARGE = (48, 64), (200, 264)  # whole, and in tiles


def pair(size: tuple[int, int], seed: int) -> list[np.ndarray]:
    """Two images with some structure, unlike those of other seeds."""
    rows, columns = np.indices(size)
    waves = np.sin(columns / (4 + seed)), np.cos(rows / (3 + seed)), np.sin((rows + columns) / 7)
    images = (waves[0] + waves[1], waves[2])
    colours = np.array([1.0, 0.9, 0.8])
    return [(127 + 60 * x[..., None] * colours).clip(0, 255).astype(np.uint8) for x in images]


def main() -> None:
    one = Fuser.load("small", steps=1)
    eight = Fuser.load("small", steps=1, devices=jax.local_devices())
    differ, words = {}, "a little brighter"
    for size, count in ((SMALL, 3), (LARGE, 3)):
        pairs = [pair(size, seed) for seed in range(count)]
        found = [
            [image.image for image in fuser.run([fuser.prepare(p, words) for p in pairs])]
            for fuser in (one, eight)
        ]
        differences = np.abs(np.subtract(*found, dtype=np.int16))
        differ[f"{count} of {size[1]}x{size[0]}"] = int(differences.max()), differences.mean()
    holders = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(eight.trained.parameters)}
    json.dump({"differ": differ, "holders": sorted(holders)}, sys.stdout)


if __name__ == "__main__":
    main()
