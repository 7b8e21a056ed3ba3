"""M3, multi-degradation masked-image modelling: two degraded views of one clean photograph.

The image is tiled into square blocks; the side is drawn per image and blocks at the edge are
cropped.  Each block gets one degradation.  A fraction of the blocks is degraded in both views, each
other block in one of them, chosen with equal probability, so that one view shows the clean block
(DiTFuse, arXiv 2512.07170).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from ditfuse_jax.degrade.degradation import Params
from ditfuse_jax.degrade.registry import DEGRADATIONS
from ditfuse_jax.errors import ContractError, UserError
from ditfuse_jax.images import check_rgb
from ditfuse_jax.registry import Registry

View = Literal["a", "b"]


@dataclasses.dataclass(frozen=True)
class M3Config:
    """The distribution of M3's views.

    Attributes:
      block_sides: block sides in pixels; one is drawn uniformly per image.
      overlap_fraction: fraction of the blocks that are degraded in both views, 0..1.
      degradations: name in `degrade.DEGRADATIONS` -> relative probability for a block.
    """

    block_sides: tuple[int, ...] = (32, 64, 128)
    overlap_fraction: float = 0.25
    degradations: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"mask": 1.0, "blur": 1.0, "noise": 1.0}
    )

    def __post_init__(self) -> None:
        if not self.block_sides or min(self.block_sides) < 1:
            raise UserError(f"M3: block_sides must be positive pixels, got {self.block_sides}")
        if not 0 <= self.overlap_fraction <= 1:
            raise UserError(f"M3: overlap_fraction must lie in 0..1, got {self.overlap_fraction}")
        for name in self.degradations:
            DEGRADATIONS.find(name)
        weights = list(self.degradations.values())
        if not weights or min(weights) < 0 or sum(weights) <= 0:
            raise UserError(
                f"M3: degradations need positive weights, got {dict(self.degradations)}"
            )


_PAPER = M3Config()
M3_PRESETS: Registry[M3Config] = Registry(
    "M3 preset",
    {
        "paper": _PAPER,
        "extended": dataclasses.replace(
            _PAPER,
            degradations={
                **_PAPER.degradations,
                "low_light": 1.0,
                "colour_shift": 1.0,
                "exposure_imbalance": 1.0,
            },
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class Block:
    """The degradation of one block; positions and sizes in pixels.

    Attributes:
      params: the drawn parameters, for each view in which the block is degraded.
    """

    top: int
    left: int
    height: int
    width: int
    degradation: str
    params: Mapping[View, Params]

    @property
    def degraded_in(self) -> Literal["a", "b", "both"]:
        return "both" if len(self.params) == 2 else next(iter(self.params))


@dataclasses.dataclass(frozen=True, eq=False)
class M3Views:
    """Two views, `uint8 (H, W, 3)`, and all blocks in row order."""

    view_a: np.ndarray
    view_b: np.ndarray
    blocks: tuple[Block, ...]


def degrade_views(
    image: np.ndarray, rng: np.random.Generator, config: M3Config = _PAPER
) -> M3Views:
    """Returns two degraded views of a clean `uint8 (H, W, 3)` image, which is not modified.

    A block that is degraded in both views has the same degradation in both, but separately drawn
    parameters (strength, kind of blur or noise, random numbers), as in the method's released code.

    Raises:
      UserError: the image is not `uint8 (H, W, 3)`.
      ContractError: a degradation changes its input, or does not return a block and a dict.
    """
    check_rgb(image, "M3's clean image")
    height, width = image.shape[:2]
    side = config.block_sides[rng.integers(len(config.block_sides))]
    tiles = list(_tiles(height, width, side))
    names = _draw_degradations(len(tiles), config.degradations, rng)
    drawn_views = _draw_views(len(tiles), config.overlap_fraction, rng)
    views: dict[View, np.ndarray] = {"a": image.copy(), "b": image.copy()}
    clean = image.view()
    clean.flags.writeable = False
    blocks = []
    for (top, left, bottom, right), name, block_views in zip(
        tiles, names, drawn_views, strict=True
    ):
        where = (slice(top, bottom), slice(left, right))
        params: dict[View, Params] = {}
        for view in block_views:
            views[view][where], params[view] = _degrade(name, clean[where], rng)
        blocks.append(Block(top, left, bottom - top, right - left, name, params))
    return M3Views(views["a"], views["b"], tuple(blocks))


def _degrade(name: str, block: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Params]:
    """Applies a degradation, which may come from an extension, to a read-only block."""
    try:
        result = DEGRADATIONS[name](block, rng)
    except Exception as error:  # NumPy and OpenCV raise different ones
        if "read-only" not in str(error) and "readonly" not in str(error):
            raise
        raise ContractError(
            f"degradation {name!r} changes its input ({error}): it must return a new block"
        ) from error
    match result:
        case (np.ndarray() as degraded, dict()) if (
            degraded.dtype == np.uint8 and degraded.shape == block.shape
        ):
            return degraded, result[1]
        case (np.ndarray() as degraded, _):
            returned = f"{degraded.dtype} {degraded.shape} and {type(result[1]).__name__}"
        case _:
            returned = type(result).__name__
    raise ContractError(
        f"degradation {name!r} must return a tuple of a uint8 block {block.shape} and a dict of "
        f"parameters, it returned {returned}"
    )


def _tiles(height: int, width: int, side: int) -> Iterator[tuple[int, int, int, int]]:
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield top, left, min(top + side, height), min(left + side, width)


def _draw_degradations(
    count: int, weights: Mapping[str, float], rng: np.random.Generator
) -> list[str]:
    probabilities = np.array(list(weights.values()), np.float64)
    drawn = rng.choice(len(weights), size=count, p=probabilities / probabilities.sum())
    names = list(weights)
    return [names[index] for index in drawn]


def _draw_views(
    count: int, overlap_fraction: float, rng: np.random.Generator
) -> list[tuple[View, ...]]:
    """Returns the views in which each block is degraded.

    The number of blocks degraded in both views is the exact fraction of all blocks, rounded up or
    down at random so that its mean is exact also for the few large blocks of a small image.
    """
    drawn_views: list[tuple[View, ...]] = [
        ("a",) if coin < 0.5 else ("b",) for coin in rng.random(count)
    ]
    both = int(count * overlap_fraction + rng.random())
    for index in rng.permutation(count)[:both]:
        drawn_views[index] = ("a", "b")
    return drawn_views
