"""A student of a small model: 4 steps and no guidance instead of 50 steps of three branches.

    ditfuse distill TEACHER --config nano_distill:DATA --workdir runs/student

Time and result: not measured.

TEACHER is a run or other weights; the student is the same model.  docs/how_to/distill.md has the
results of a teacher with crops of 64 pixels.
"""

from ditfuse_jax.train.recipe import Config, default_config


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is a folder of photographs, by default the sample photographs."""
    config = default_config("nano")
    if arg:
        config.data.mixture.photos.source = arg
    config.distill.loss = "student_trajectory"
    config.distill.sample = {"steps": 8, "solver": "midpoint"}
    config.data.crop = (128, 128)
    config.data.batch_size = 8
    config.data.workers = 0  # threads are fast enough for small batches
    config.optimizer.learning_rate = 7e-4
    config.optimizer.warmup_steps = 10
    config.train.steps = 150
    config.train.ema_decay = 0.97
    config.train.log_every = 10
    config.train.checkpoint_every = 50
    config.evaluations.held_out.every = 0
    config.sample.steps = 4
    config.sample.guidance_scale = 1.0
    config.sample.image_guidance_scale = 1.0
    return config
