"""`nano` on M3 pairs of sample photographs: self-supervised fusion in minutes on a laptop's CPU.

    ditfuse train --config nano_m3 --workdir runs/nano
    ditfuse evaluate --checkpoint runs/nano --data samples:heldout --count 6

Time: 5 minutes for 240 steps on 2 cores of an AMD EPYC (docs/measurements.md).
Result: PSNR 21.15 dB to the clean photograph over 6 held-out pairs; the mean of the views has
17.18 dB.

The photographs are those of scikit-image's wheel; give a folder of your own with
`--config.data.mixture.photos.source=/path/to/photographs`.
"""

from ditfuse_jax.train.recipe import Config, default_config


def get_config(arg: str = "") -> Config:
    """Returns the recipe; `arg` is not used."""
    del arg
    config = default_config("nano")
    # Prompts of the instruction pools are short: small slots need less padding.
    config.model.text_slots = (24, 12, 48)
    config.data.crop = (128, 128)
    config.data.batch_size = 16
    config.data.workers = 0  # threads are fast enough for small batches
    config.flow.draws = 2  # two noise draws share a condition pass
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 20
    config.optimizer.weight_decay = 0.01
    config.train.steps = 240
    config.train.ema_decay = 0.98
    config.train.log_every = 10
    config.train.checkpoint_every = 60
    config.evaluations.held_out.every = 120
    config.sample.steps = 4
    # The result does not depend on the instruction: without guidance a third of the work.
    config.sample.guidance_scale = 1.0
    config.sample.image_guidance_scale = 1.0
    return config
