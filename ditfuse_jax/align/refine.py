"""Gauss-Newton refinement of a warp between the descriptors of two images."""

import dataclasses

import cv2
import numpy as np

from ditfuse_jax.align.descriptors import MARGIN, orientation_descriptors
from ditfuse_jax.align.geometry import (
    corner_distance,
    from_parameters,
    jacobian,
    translation,
)

# Pixels are summed in cells, in which the derivative of a warp is taken for constant.
_CELL = 8
_TOLERANCE = 0.05
_DAMPING = 1e-3


@dataclasses.dataclass(frozen=True)
class Equations:
    """The least squares of a displacement in each of N cells, at one warp.

    Attributes:
      normal: normal matrices, (N, 2, 2).
      gradient: gradients, (N, 2).
      score: correlation of the descriptors where both images have pixels, at most 1.
      overlap: share of the reference of which that is so.
    """

    normal: np.ndarray
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
        along_x, along_y = (
            (one + two) / 2 for one, two in zip(self._fixed_gradient, _gradient(other), strict=True)
        )
        xx, xy, yy, ex, ey = (
            self._sum(weight * (one * two).sum(0))
            for one, two in (
                (along_x, along_x),
                (along_x, along_y),
                (along_y, along_y),
                (along_x, difference),
                (along_y, difference),
            )
        )
        normal = np.stack([np.stack([xx, xy], 1), np.stack([xy, yy], 1)], 1)
        gradient = np.stack([ex, ey], 1)
        return Equations(normal, gradient, float(score), float(mask.mean()))

    def refine(self, matrix: np.ndarray, model: str, iterations: int = 10) -> Refined:
        """Returns the warp of a model that fits best, near a given one."""
        identity = np.eye(3)
        for _ in range(iterations):
            equations = self.equations(matrix)
            change = self._change(self._solve(equations, model), model)
            matrix = matrix @ change
            matrix = matrix / matrix[2, 2]
            moved = corner_distance(change, identity, self._height, self._width)
            if not moved < max(self._height, self._width):
                return Refined(identity, 0.0, 0.0)  # diverged
            if moved < _TOLERANCE:
                break
        equations = self.equations(matrix)
        return Refined(matrix, equations.score, equations.overlap)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, self._cells[::-1], interpolation=cv2.INTER_AREA).ravel()

    def _solve(self, equations: Equations, model: str) -> np.ndarray:
        """Returns the parameters of the step."""
        derivative = jacobian(model, self._points) * self._unit
        left = np.einsum("nip,nij->npj", derivative, equations.normal)
        normal = np.einsum("npj,njq->pq", left, derivative)
        gradients = np.einsum("nip,ni->np", derivative, equations.gradient)
        normal += np.eye(len(normal)) * (np.trace(normal) / len(normal) * _DAMPING + 1e-9)
        return -np.linalg.solve(normal, gradients.sum(0))

    def _change(self, parameters: np.ndarray, model: str) -> np.ndarray:
        return np.linalg.inv(self._to_unit) @ from_parameters(model, parameters) @ self._to_unit


def _gradient(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the derivatives along x and y of (C, H, W)."""
    x, y = (
        np.stack([cv2.Sobel(c, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for c in channels])
        for order in ((1, 0), (0, 1))
    )
    return x, y
