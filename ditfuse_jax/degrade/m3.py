"""M3, multi-degradation masked-image modelling: two damaged views of one clean photograph.

The image is tiled into square blocks of one side, drawn per image; edge blocks are cut.  Each
block gets one degradation.  A share of the blocks is hit in both views, each other block in exactly
one, chosen by a fair coin, so that most of the clean image is there to be found in one of them
(DiTFuse, arXiv 2512.07170).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from ditfuse_jax.degrade.degradation import Params
from ditfuse_jax.degrade.registry import DEGRADATIONS
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import check_rgb
from ditfuse_jax.registry import Registry

View = Literal["a", "b"]


@dataclasses.dataclass(frozen=True)
class M3Config:
    """What M3 draws from.

    Attributes:
      block_sides: block sides in pixels, one drawn per image, each as likely.
      overlap_fraction: share of the blocks that are hit in both views, 0..1.
      degradations: names in `degrade.DEGRADATIONS` -> relative weight of being drawn for a block.
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
    """What was done to one block; positions and sizes in pixels.

    Attributes:
      params: what the degradation drew, for each view that was hit.
    """

    top: int
    left: int
    height: int
    width: int
    degradation: str
    params: Mapping[View, Params]

    @property
    def hit(self) -> Literal["a", "b", "both"]:
        return "both" if len(self.params) == 2 else next(iter(self.params))


@dataclasses.dataclass(frozen=True, eq=False)
class M3Views:
    """Two views, `uint8 (H, W, 3)`, and the record of every block in row order."""

    view_a: np.ndarray
    view_b: np.ndarray
    blocks: tuple[Block, ...]


def degrade_views(
    image: np.ndarray, rng: np.random.Generator, config: M3Config = _PAPER
) -> M3Views:
    """Returns two degraded views of a clean `uint8 (H, W, 3)` image, which is left as it is.

    In a block that is hit in both views the degradation is the same and all that it draws is not:
    each view gets its own strength, kind of blur or noise, and random numbers, as in the released
    code of the method.

    Raises:
      UserError: the image is not `uint8 (H, W, 3)`.
    """
    check_rgb(image, "M3's clean image")
    height, width = image.shape[:2]
    side = config.block_sides[rng.integers(len(config.block_sides))]
    tiles = list(_tiles(height, width, side))
    names = _draw_degradations(len(tiles), config.degradations, rng)
    hits = _draw_hits(len(tiles), config.overlap_fraction, rng)
    views: dict[View, np.ndarray] = {"a": image.copy(), "b": image.copy()}
    blocks = []
    for (top, left, bottom, right), name, hit in zip(tiles, names, hits, strict=True):
        where = (slice(top, bottom), slice(left, right))
        params: dict[View, Params] = {}
        for view in hit:
            views[view][where], params[view] = DEGRADATIONS[name](image[where], rng)
        blocks.append(Block(top, left, bottom - top, right - left, name, params))
    return M3Views(views["a"], views["b"], tuple(blocks))


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


def _draw_hits(
    count: int, overlap_fraction: float, rng: np.random.Generator
) -> list[tuple[View, ...]]:
    """Returns the views that each block is hit in.

    The number hit in both is the exact share, not a coin per block; where that is no whole number
    it is rounded up or down at random, so that the share holds on average also for the few large
    blocks of a small image.
    """
    hits: list[tuple[View, ...]] = [("a",) if coin < 0.5 else ("b",) for coin in rng.random(count)]
    both = int(count * overlap_fraction + rng.random())
    for index in rng.permutation(count)[:both]:
        hits[index] = ("a", "b")
    return hits
