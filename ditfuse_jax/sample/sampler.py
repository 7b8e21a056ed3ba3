"""The sampler: from noise to images.

The condition passes through the transformer once per guidance branch; the steps then compute the
target's tokens only.  Branches are folded into the batch, so an evaluation of the velocity is one
forward pass.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.flow import GuidanceRule, SamplingConfig, Solver, TimeGrid, find_solver
from ditfuse_jax.flow.guidance import PLAIN
from ditfuse_jax.flow.guided_velocity import branch_velocities, encode
from ditfuse_jax.model import Condition
from ditfuse_jax.model.logical_axes import logical_axis_rules
from ditfuse_jax.model.network import Network
from ditfuse_jax.model.space import PixelSpace, Space
from ditfuse_jax.parallel import Partitioner, missing_rows
from ditfuse_jax.sample.sequence_sampler import SequenceSampler, decides_by_cells
from ditfuse_jax.sample.structure import Structure, config_of, merge
from ditfuse_jax.sample.tiled import TiledSampler, fetch, put
from ditfuse_jax.xla.kept_programs import programs_folder

if TYPE_CHECKING:
    from ditfuse_jax.model import DiTFuse

_PROGRAMS = 64  # choices of settings whose compiled programs are kept

# The array of JAX is one that is still being computed, of a frame of a sequence.
Sampler = Callable[..., np.ndarray | jax.Array]


def sample(
    model: "DiTFuse",
    branches: Condition,
    noise: jax.Array,
    weights: jax.Array,
    times: jax.Array,
    solver: Solver,
    rule: GuidanceRule = PLAIN,
) -> jax.Array:
    """Integrates the guided flow from noise to image.

    Args:
      model: the network.
      branches: conditions of the R guidance branches, every leaf (R, B, ...).
      noise: (B, H, W, C) standard normal.
      weights: (R,) one per branch; see `Guidance.weights`.
      times: (S + 1,) from 0 to 1.
      solver: see `flow.solvers`.
      rule: how the branches are combined.

    Returns:
      (B, H, W, C): pixels in about [-1, 1], or latents.
    """
    num_branches, batch = branches.tokens.shape[:2]
    condition = jax.tree.map(lambda x: x.reshape(num_branches * batch, *x.shape[2:]), branches)
    encoded = encode(model, condition, num_branches)
    start = rule.start(num_branches, noise)
    average = None if start is None else jax.new_ref(start)  # solvers carry x only

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        velocities = branch_velocities(model, encoded, condition, x, t)
        before = None if average is None else average[...]
        guided, after = rule(velocities, weights, x, t, before)
        if average is not None:
            average[...] = after
        return guided

    return solver(velocity, noise, times)


def make_sampler(
    structure: Structure, sampling: SamplingConfig, partitioner: Partitioner | None = None
) -> Sampler:
    """Returns a sampler, compiled on first use for each batch shape and number of branches.

    Samplers with equal arguments share compiled programs.

    Args:
      structure: of the model.
      sampling: its solver, times, guidance rule, tile and global steps are used.
      partitioner: distributes the work over its mesh, on which the parameters must be.

    Returns:
      A function of (parameters, branches, noise, weights); see `sample`; with `reuse` of
      `TiledSampler` as an option.  All but the parameters are NumPy arrays, equal in all processes,
      and so is the result.

    Raises:
      UserError: the solver breaks its contract; see `find_solver`.
    """
    rule, grid = sampling.guidance.rule, sampling.time_grid
    at_once = whole_sampler(structure, sampling, partitioner)

    def whole(parameters, branches, noise, weights, reuse=None):
        del reuse  # a whole image is encoded afresh
        count = len(noise)
        branches = jax.tree.map(
            functools.partial(_put_rows, partitioner=partitioner, axis=1), branches
        )
        noise = _put_rows(noise, partitioner)
        images = at_once(parameters, branches, noise, put(weights, partitioner))
        return fetch(images, partitioner)[:count]

    if not sampling.tile:
        return whole
    in_tiles = _tiled_sampler(structure, sampling.solver, sampling.tile, rule, partitioner)
    by_cells = partitioner is None and decides_by_cells(structure, sampling)
    of_sequence = SequenceSampler(in_tiles)

    def run(parameters, branches, noise, weights, reuse=None):
        config = config_of(structure, parameters)
        side = sampling.tile // config.latent_downsampling
        if max(noise.shape[1:3]) <= side:
            return whole(parameters, branches, noise, weights)
        times = grid(_tokens(noise, config.patch_size, side))
        large = min(noise.shape[1:3]) > side  # else there are no global steps
        if reuse is not None and by_cells and large and of_sequence.fits(branches):
            return of_sequence(parameters, branches, noise, weights, times, reuse)
        kept = {} if reuse is None else {"reuse": reuse}
        return in_tiles(parameters, branches, noise, weights, times, sampling.global_steps, **kept)

    return run


def prepare_sampler(
    structure: Structure,
    sampling: SamplingConfig,
    parameters: Any,
    branches: Condition,
    noise: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Reads or compiles the programs of a call of the sampler in another thread, if they are kept.

    Args:
      structure, sampling: of `make_sampler`.
      parameters: the model's.
      branches, noise, weights: see `sample`; only their shapes and types are used.
    """
    if programs_folder() is None or not sampling.tile or not isinstance(structure, Network):
        return
    config = structure.model
    side = sampling.tile // config.latent_downsampling
    if max(noise.shape[1:3]) > side:
        tiled = _tiled_sampler(
            structure, sampling.solver, sampling.tile, sampling.guidance.rule, None
        )
        times = sampling.time_grid(_tokens(noise, config.patch_size, side))
        tiled.prepare(parameters, branches, noise, weights, times)


def whole_sampler(
    structure: Structure, sampling: SamplingConfig, partitioner: Partitioner | None = None
) -> Any:
    """Returns the jitted sampler of whole images, with `lower`; see `make_sampler`."""
    rule, grid = sampling.guidance.rule, sampling.time_grid
    return _whole_sampler(structure, sampling.solver, grid, rule, partitioner)


@functools.lru_cache(_PROGRAMS)
def _whole_sampler(
    structure: Structure,
    solver: str,
    grid: TimeGrid,
    rule: GuidanceRule,
    partitioner: Partitioner | None,
) -> Any:
    """The jitted sampler of whole images."""
    solve = find_solver(solver)

    @jax.jit
    def whole(parameters, branches, noise, weights):
        model = merge(structure, parameters)
        times = jnp.asarray(grid(_tokens(noise, model.config.patch_size)))
        spread = (
            logical_axis_rules(partitioner.activation) if partitioner else contextlib.nullcontext()
        )
        with spread:
            return sample(model, branches, noise, weights, times, solve, rule)

    return whole


@functools.lru_cache(_PROGRAMS)
def _tiled_sampler(
    structure: Structure,
    solver: str,
    tile: int,
    rule: GuidanceRule,
    partitioner: Partitioner | None,
) -> TiledSampler:
    return TiledSampler(structure, tile, find_solver(solver), partitioner, rule)


def _tokens(noise: jax.Array | np.ndarray, patch: int, side: int | None = None) -> int:
    """Returns the target tokens of an image (B, H, W, C), or of one of its tiles."""
    height, width = (min(size, side or size) for size in noise.shape[1:3])
    return height // patch * (width // patch)


def make_codec(space: Space, partitioner: Partitioner | None = None) -> tuple[Callable, Callable]:
    """Returns `Space.encode` and `Space.decode` from NumPy arrays to NumPy arrays.

    An autoencoder is compiled for every size; pixels are passed on as they are.
    """
    if isinstance(space, PixelSpace):
        return (lambda _, images, noise: images), (lambda _, x: x)
    encode, decode = jitted_codec(space)

    def encoded(autoencoder, images, noise):
        count = len(images)
        images, noise = (_put_rows(array, partitioner) for array in (images, noise))
        return fetch(encode(autoencoder, images, noise), partitioner)[:count]

    def decoded(autoencoder, x):
        return fetch(decode(autoencoder, _put_rows(x, partitioner)), partitioner)[: len(x)]

    return encoded, decoded


def _put_rows(array: np.ndarray, partitioner: Partitioner | None, axis: int = 0) -> Any:
    """Puts rows on the devices, with copies of the last one if they do not divide evenly."""
    missing = missing_rows(array.shape[axis], partitioner)
    if missing:
        widths = [(0, missing if k == axis else 0) for k in range(array.ndim)]
        array = np.pad(array, widths, mode="edge")
    return put(array, partitioner, axis)


@functools.cache
def jitted_codec(space: Space) -> tuple[Any, Any]:
    """Returns `Space.encode` and `Space.decode`, jitted, with `lower`."""
    return jax.jit(space.encode), jax.jit(space.decode)
