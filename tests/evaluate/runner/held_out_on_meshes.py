"""Held-out scores of one model on one device and on a mesh of eight; prints a JSON list."""

import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax.images import write_image
from ditfuse_jax.model.network import init_parameters
from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh
from ditfuse_jax.parallel.abstract import abstract_model
from ditfuse_jax.train import EvalContext, TrainState, load_recipe, make_evaluations, resolve
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.state import Frozen, shardings_of

MESHES = (MeshConfig(data=2, fsdp=2, tensor=2),)


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    write_image(folder / "photo.png", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    words = [
        "--config.model.hidden_size=32",
        "--config.model.num_layers=1",
        "--config.model.num_heads=4",
        "--config.model.num_kv_heads=4",
        "--config.model.intermediate_size=64",
        "--config.model.vocab_size=1280",
        "--config.data.crop=(32, 32)",
        "--config.sample.steps=2",
        "--config.sample.guidance_scale=2.0",
        "--config.evaluations.held_out.count=5",  # divides by none of the meshes
        f"--config.evaluations.held_out.source={folder}",
    ]
    recipe = resolve(load_recipe("nano_m3", words))
    (held_out,) = make_evaluations(recipe)
    initial = jax.device_get(init_parameters(recipe.network, jax.random.key(0)))
    # Fresh adaptive layers are zero and would hide the condition.
    initial = jax.tree.map(
        lambda x: x + 0.05 * rng.standard_normal(x.shape).astype(x.dtype), initial
    )
    found = []
    for mesh in (make_mesh(MeshConfig(), jax.devices()[:1]), *map(make_mesh, MESHES)):
        partitioner = Partitioner(mesh)
        shardings = shardings_of(abstract_model(recipe.model, partitioner))
        state = TrainState(
            step=np.int32(0),
            parameters=jax.device_put(initial, shardings),
            optimizer=None,
            ema=None,
            skipped=np.int32(0),
            grad_norm_ema=np.float32(0),
        )
        run = RunFolder(folder / "run")
        context = EvalContext(
            0, state, Frozen({}, {}), PixelSpace(), recipe, run, partitioner, run.samples
        )
        found.append(dict(held_out(context)))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
