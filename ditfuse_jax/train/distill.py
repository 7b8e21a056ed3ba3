"""The start of a distillation: what it takes from its teacher, and the teacher's identity."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ditfuse_jax.errors import UserError
from ditfuse_jax.flow.distillation import DISTILLATIONS, student_sampling
from ditfuse_jax.model.network import Parameters
from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.recipe import Config, apply_overrides
from ditfuse_jax.train.teacher import TEACHER_FINGERPRINT

DEFAULT_LOSS = "student_trajectory"


def distill_from(config: Config, path: str) -> None:
    """Makes an unlocked recipe distil a teacher.

    The student is the teacher's model and starts from its weights; it samples as the teacher does,
    but without guidance, and if the loss trains it for few steps, with the recipe's `sample.steps`
    of Euler's method.  The teacher samples with its own settings, changed by those of the recipe's
    `distill.sample`.

    Args:
      config: the recipe.
      path: the teacher; see `weights.open_checkpoint`.

    Raises:
      UserError: there is no such model, it consists of adapters, or the loss is unknown.
    """
    teacher = initialize_from(config, path)
    config.distill.teacher = config.weights
    config.distill.loss = config.distill.loss or DEFAULT_LOSS
    sampling = teacher.sampling.override(config.distill.sample.to_dict())
    steps = config.sample.steps if _is_for_few_steps(config.distill.loss) else None
    if steps is not None:  # each of them replaces the same number of the teacher's
        sampling = sampling.override({"steps": -(-sampling.steps // steps) * steps})
    config.distill.sample = ConfigDict(sampling.to_dict())
    config.sample = ConfigDict(student_sampling(teacher.sampling, steps).to_dict())
    config.data.condition_dropout = 0.0  # is for guidance


def distilling(config: Config, path: str, overrides: Sequence[str]) -> Config:
    """Returns a locked copy of a recipe that distils a teacher, with overrides.

    What the student takes from its teacher depends on the loss, which overrides may change.

    Args:
      config: the recipe.
      path: the teacher; see `distill_from`.
      overrides: see `recipe.apply_overrides`.

    Raises:
      UserError: bad teacher or overrides.
    """

    def with_loss(loss: str) -> Config:
        copied = config.copy_and_resolve_references()
        with copied.unlocked():
            copied.distill.loss = loss
            distill_from(copied, path)
        return apply_overrides(copied, overrides)

    loss = config.distill.loss or DEFAULT_LOSS
    changed = with_loss(loss)
    if changed.distill.loss != loss:
        changed = with_loss(changed.distill.loss)
    _check_teacher_steps(changed.distill.loss, overrides)
    return changed


def _check_teacher_steps(loss: str, overrides: Sequence[str]) -> None:
    if _is_for_few_steps(loss):
        return
    for name in ("steps", "solver"):
        option = f"--config.distill.sample.{name}"
        if any(override.split("=")[0] == option for override in overrides):
            raise UserError(
                f"{option} has no effect with distill.loss {loss!r}, which asks the teacher for "
                f"its velocity at single times: leave it out, or set --config.sample.{name} for "
                "the student"
            )


def _is_for_few_steps(loss: str) -> bool:
    try:
        return DISTILLATIONS.find(loss).draw_per_step
    except UserError as error:
        raise UserError(f"distill: {error}") from error


def parameters_fingerprint(parameters: Parameters) -> str:
    """Returns a digest of parameters, the same on all meshes: nothing is read again."""
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    sums = jax.device_get(jax.jit(lambda xs: [_checksum(x) for x in xs])([x for _, x in leaves]))
    digest = hashlib.sha256()
    for (path, leaf), value in zip(leaves, sums, strict=True):
        name = "/".join(key.key for key in path)
        digest.update(f"{name} {leaf.shape} {leaf.dtype} {int(value)}\n".encode())
    return digest.hexdigest()


def check_same_teacher(saved: Mapping[str, Any], fingerprint: str, dtype: str, path: Path) -> None:
    """Refuses to continue the distillation of another teacher.

    Fingerprints are of the numbers in the computation type, which a run may change: of another type
    they cannot be compared.

    Args:
      saved: the checkpoint's config.
      fingerprint: of the teacher now; empty without one.
      dtype: the computation type now, `model.dtype`.
      path: of the run, for the message.

    Raises:
      UserError: it is another one.
    """
    before = saved.get(TEACHER_FINGERPRINT, "")
    comparable = before and fingerprint and saved["model"]["dtype"] == dtype
    if comparable and before != fingerprint:
        raise UserError(
            f"{path} distils the teacher {saved['distill']['teacher']}, whose weights are not the "
            "ones given now: name the same checkpoint (RUN/checkpoints/STEP), or use another "
            "--workdir"
        )


def _checksum(x: jax.Array) -> jax.Array:
    """Sums hashes of all numbers and their places modulo 2**32, in any order the same sum."""
    if jnp.issubdtype(x.dtype, jnp.integer):  # of a quantised kernel
        bits = x.astype(jnp.int32).astype(jnp.uint32)
    else:
        unsigned = {2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
        bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        index = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        place = (place + index) * jnp.uint32(0x9E3779B1)
    mixed = (bits ^ place) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed, dtype=jnp.uint32)
