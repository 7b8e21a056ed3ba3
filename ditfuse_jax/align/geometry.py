"""Warps between the pixels of two images: 3 x 3 matrices, models and their parameters."""

import numpy as np

# Simplest first; each contains the ones before it.
MODELS = ("translation", "similarity", "affine", "homography")

NUM_PARAMETERS = {"translation": 2, "similarity": 4, "affine": 6, "homography": 8}


def corners(height: float, width: float) -> np.ndarray:
    """Returns the centres of the four corner pixels as (x, y), float64 (4, 2)."""
    right, bottom = width - 1, height - 1
    return np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float64)


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Maps points (..., 2) by a matrix (3, 3)."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped[..., :2] / mapped[..., 2:]


def corner_distance(one: np.ndarray, other: np.ndarray, height: int, width: int) -> float:
    """Returns how far apart two warps map a corner of an image at most, in pixels."""
    points = corners(height, width)
    difference = transform(one, points) - transform(other, points)
    return float(np.linalg.norm(difference, axis=-1).max())


def translation(x: float, y: float) -> np.ndarray:
    """Returns the matrix of a shift."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def similarity_about(
    centre: tuple[float, float], scale: float, degrees: float, shift: tuple[float, float] = (0, 0)
) -> np.ndarray:
    """Returns a rotation and scale about a point, followed by a shift."""
    angle = np.deg2rad(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    about = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float64)
    there = translation(centre[0] + shift[0], centre[1] + shift[1])
    return there @ about @ translation(-centre[0], -centre[1])


def pixel_scaling(from_size: tuple[int, int], to_size: tuple[int, int]) -> np.ndarray:
    """Returns the map of pixel centres when an image (height, width) is resized."""
    y, x = (to / of for of, to in zip(from_size, to_size, strict=True))
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]], np.float64)


def jacobian(model: str, points: np.ndarray) -> np.ndarray:
    """Returns d(warped point)/d(parameters) at the identity, (N, 2, P), for points (N, 2)."""
    x, y = points[:, 0], points[:, 1]
    one, zero = np.ones_like(x), np.zeros_like(x)
    along_x, along_y = [one, zero], [zero, one]
    if model == "similarity":
        along_x += [x, -y]
        along_y += [y, x]
    elif model in ("affine", "homography"):
        along_x += [x, y, zero, zero]
        along_y += [zero, zero, x, y]
        if model == "homography":
            along_x += [x * x, x * y]
            along_y += [x * y, y * y]
    return np.stack([np.stack(along_x, 1), np.stack(along_y, 1)], 1)


def from_parameters(model: str, p: np.ndarray) -> np.ndarray:
    """Returns the matrix whose first-order change of points is `jacobian @ p`."""
    matrix = translation(p[0], p[1])
    if model == "similarity":
        matrix[:2, :2] += [[p[2], -p[3]], [p[3], p[2]]]
    elif model in ("affine", "homography"):
        matrix[:2, :2] += p[2:6].reshape(2, 2)
        if model == "homography":
            matrix[2, :2] = -p[6:8]
    return matrix
