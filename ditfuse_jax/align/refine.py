"""Gauss-Newton refinement of a warp between the descriptors of two images."""

import dataclasses

import cv2
import numpy as np

from ditfuse_jax.align.descriptors import MARGIN, orientation_descriptors
from ditfuse_jax.align.geometry import (
    corner_distance,
    corners,
    from_parameters,
    jacobian,
    transform,
    translation,
)

# Pixels are summed in cells, in which the derivative of a warp is taken for constant.
_CELL = 8
_TOLERANCE = 0.05
_DAMPING = 1e-3
# Edges that only one of the images has make Gauss-Newton steps too short.  They are made longer by
# up to this factor; with more, richer models miss the optimum from afar.
_LONGER = 2.0
# Of the acceleration: how often one step may be added, and how far a warp may go, in pixels.
_MOST_STEPS, _FARTHEST = 5.0, 6.0


@dataclasses.dataclass(frozen=True)
class Equations:
    """The least squares of a displacement in each of N cells, at one warp.

    Attributes:
      normal: normal matrices of the mean of both images' gradients, (N, 2, 2).
      shared: the same of the products of one's gradients with the other's.
      gradient: gradients, (N, 2).
      score: correlation of the descriptors where both images have pixels, at most 1.
      overlap: share of the reference of which that is so.
    """

    normal: np.ndarray
    shared: np.ndarray
    gradient: np.ndarray
    score: float
    overlap: float


@dataclasses.dataclass(frozen=True)
class Refined:
    """A refined warp.

    Attributes:
      matrix: reference pixels -> moving pixels, at this level.
      score, overlap: see `Equations`.
    """

    matrix: np.ndarray
    score: float
    overlap: float


class Level:
    """Two images at one resolution, float32 (h, w) and (h', w')."""

    def __init__(self, reference: np.ndarray, moving: np.ndarray):
        self._moving = moving
        self._covered = np.ones(moving.shape, np.float32)
        self._height, self._width = reference.shape
        self._fixed = orientation_descriptors(reference)
        self._fixed_gradient = _gradient(self._fixed)
        rows, columns = max(2, self._height // _CELL), max(2, self._width // _CELL)
        self._cells = (rows, columns)
        self._unit = max(self._height, self._width) / 2
        self._to_unit = np.diag([1 / self._unit, 1 / self._unit, 1]) @ translation(
            -(self._width - 1) / 2, -(self._height - 1) / 2
        )
        x = ((np.arange(columns) + 0.5) * self._width / columns - self._width / 2) / self._unit
        y = ((np.arange(rows) + 0.5) * self._height / rows - self._height / 2) / self._unit
        self._points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)

    def equations(self, matrix: np.ndarray) -> Equations:
        """Returns the equations of the displacement that would improve a warp."""
        size = (self._width, self._height)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        image = cv2.warpPerspective(
            self._moving, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        mask = cv2.warpPerspective(self._covered, matrix, size, flags=flags)
        kernel = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
        mask = cv2.erode((mask > 0.999).astype(np.float32), kernel, borderValue=0)
        other = orientation_descriptors(image)
        agreement = (other * self._fixed).sum(0)
        energies = [(mask * (x * x).sum(0)).sum() for x in (other, self._fixed)]
        score = (mask * agreement).sum() / np.sqrt(energies[0] * energies[1] + 1e-6)
        # An edge that only one modality sees says nothing.
        weight = mask * np.maximum(agreement, 0)
        difference = other - self._fixed
        # The mean of both gradients converges faster than either (ESM: Benhimane and Malis, 2004).
        fixed, moved = self._fixed_gradient, _gradient(other)
        mean = tuple((one + two) / 2 for one, two in zip(fixed, moved, strict=True))
        ex, ey = (self._sum(weight * (along * difference).sum(0)) for along in mean)
        normal, shared = self._products(weight, mean, mean), self._products(weight, fixed, moved)
        gradient = np.stack([ex, ey], 1)
        return Equations(normal, shared, gradient, float(score), float(mask.mean()))

    def refine(self, matrix: np.ndarray, model: str, iterations: int) -> Refined:
        """Returns the warp of a model that fits best, near a given one."""
        identity = np.eye(3)
        accelerate = _Acceleration(corners(self._height, self._width))
        for _ in range(iterations):
            change = self._change(self._solve(self.equations(matrix), model), model)
            moved = corner_distance(change, identity, self._height, self._width)
            if not moved < max(self._height, self._width):
                return Refined(identity, 0.0, 0.0)  # diverged
            changed = matrix @ change
            matrix = accelerate(matrix, changed / changed[2, 2])
            if moved < _TOLERANCE:
                break
        equations = self.equations(matrix)
        return Refined(matrix, equations.score, equations.overlap)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, self._cells[::-1], interpolation=cv2.INTER_AREA).ravel()

    def _products(
        self, weight: np.ndarray, one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]
    ) -> np.ndarray:
        """Returns the symmetric products of gradients, summed over each cell, (N, 2, 2)."""
        (ax, ay), (bx, by) = one, other
        products = ((ax * bx).sum(0), (ax * by + ay * bx).sum(0) / 2, (ay * by).sum(0))
        xx, xy, yy = (self._sum(weight * product) for product in products)
        return np.stack([np.stack([xx, xy], 1), np.stack([xy, yy], 1)], 1)

    def _solve(self, equations: Equations, model: str) -> np.ndarray:
        """Returns the parameters of the step.

        The curvature along a direction of parameters is that of the edges that both images have,
        which is Newton's for their correlation, but at least half of Gauss-Newton's, which is
        never negative.
        """
        derivative = jacobian(model, self._points) * self._unit
        normal, shared = (
            np.einsum("nip,nij,njq->pq", derivative, cells, derivative, optimize=True)
            for cells in (equations.normal, equations.shared)
        )
        normal += np.eye(len(normal)) * (np.trace(normal) / len(normal) * _DAMPING + 1e-9)
        gradient = np.einsum("nip,ni->p", derivative, equations.gradient)
        whiten = np.linalg.inv(np.linalg.cholesky(normal))
        curvature, directions = np.linalg.eigh(whiten @ shared @ whiten.T)
        directions = whiten.T @ directions
        return -directions @ ((directions.T @ gradient) / np.clip(curvature, 1 / _LONGER, 1))

    def _change(self, parameters: np.ndarray, model: str) -> np.ndarray:
        return np.linalg.inv(self._to_unit) @ from_parameters(model, parameters) @ self._to_unit


class _Acceleration:
    """Lengthens or shortens steps by what the last two have in common (Anderson, 1965, depth 1)."""

    def __init__(self, points: np.ndarray):
        self._points = points
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, matrix: np.ndarray, stepped: np.ndarray) -> np.ndarray:
        """Returns the next warp, from the present one and where its step leads."""
        placed = transform(matrix, self._points)
        step = (transform(stepped, self._points) - placed).ravel()
        last, self._last = self._last, (stepped, step)
        if last is None:
            return stepped
        less = step - last[1]
        share = np.clip(less @ step / (less @ less + 1e-12), -_MOST_STEPS, 0.5)
        # Matrices of one model, with 1 in the corner, are added to others of it.
        matrix = stepped - share * (stepped - last[0])
        matrix = matrix / matrix[2, 2]
        farthest = np.linalg.norm(transform(matrix, self._points) - placed, axis=1).max()
        return matrix if farthest < _FARTHEST else stepped


def _gradient(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the derivatives along x and y of (C, H, W)."""
    x, y = (
        np.stack([cv2.Sobel(c, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for c in channels])
        for order in ((1, 0), (0, 1))
    )
    return x, y
