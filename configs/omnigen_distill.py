"""OmniGen-v1 in four steps without guidance: a few-step adapter, distilled from the model itself.

    ditfuse distill /path/to/OmniGen-v1 --config omnigen_distill --workdir runs/few_steps \\
        --config.data.mixture.photos.source=/path/to/photographs

Time and result: not measured.

The teacher is the model under the adapters, so it takes no memory of its own.  Exported by
`ditfuse convert`, the adapter brings its four steps along, and `ditfuse fuse --lora` uses them.
`ditfuse compile --config omnigen_distill --topology v6e:2x4` says whether it fits;
docs/how_to/distill.md has what it said.
"""

from ditfuse_jax.train.recipe import Config, load_recipe


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is the side of the square training crops, 512 by default."""
    side = int(arg or 512)
    config = load_recipe("omnigen_lora")
    with config.unlocked():
        config.lora.rank = 64
        config.lora.alpha = 64.0
        config.lora.target_modules = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
        config.distill.loss = "student_trajectory"
        # Two steps of the midpoint rule for each of the student's: 16 evaluations.
        config.distill.sample = {"steps": 8, "solver": "midpoint"}
        config.data.crop = (side, side)
        config.data.batch_size = 8  # a multiple of the devices
        config.train.steps = 2000
        config.train.accumulation = 1
        config.sample.steps = 4
        config.sample.guidance_scale = 1.0
        config.sample.image_guidance_scale = 1.0
        # The frozen weights and the batch are divided among all devices.
        config.mesh.data = 1
        config.mesh.fsdp = -1
    return config
