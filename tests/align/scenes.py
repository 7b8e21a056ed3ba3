"""Drawn scenes, in which two modalities share the edges and nothing else."""

import cv2
import numpy as np

from ditfuse_jax.align.geometry import translation


def labels(seed: int, height: int = 260, width: int = 340, count: int = 40) -> np.ndarray:
    """Returns overlapping polygons with a number each, uint8 (H, W)."""
    random = np.random.default_rng(seed)
    scene = np.zeros((height, width), np.uint8)
    for number in range(1, count + 1):
        centre = random.uniform((0, 0), (width, height))
        corners = centre + random.normal(0, width / 12, (random.integers(3, 6), 2))
        cv2.fillPoly(scene, [cv2.convexHull(corners.astype(np.int32))], number)
    return scene


def render(scene: np.ndarray, seed: int, warp: np.ndarray | None = None) -> np.ndarray:
    """Returns a modality: a random grey for each polygon, blur and noise; uint8 (H, W, 3).

    With a warp, pixels of the result -> pixels of the scene, polygons move before the noise.
    """
    random = np.random.default_rng(seed)
    grey = random.uniform(20, 235, 256).astype(np.float32)[scene]
    if warp is not None:
        size = scene.shape[::-1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        grey = cv2.warpPerspective(grey, warp, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    grey = cv2.GaussianBlur(grey, (0, 0), 0.8) + random.normal(0, 3, scene.shape)
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def two_views(
    seed: int, warp: np.ndarray, border: int = 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a reference, a moved image of another modality, and the true warp.

    Both are cut from the inside of a scene, so that no border is empty.
    """
    scene = labels(seed)
    reference = render(scene, seed + 1)[border:-border, border:-border]
    moving = render(scene, seed + 2, np.linalg.inv(warp))[border:-border, border:-border]
    offset = translation(border, border)
    truth = np.linalg.inv(offset) @ warp @ offset
    return np.ascontiguousarray(reference), np.ascontiguousarray(moving), truth
