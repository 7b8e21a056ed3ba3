"""How instructions reach the image: times at pure noise in training, and the pooled prompt.

    ditfuse sweep instructions --workdir runs/instructions

Time and result: not measured.

The targets are brighter, darker or of lower or higher contrast than the sources, as the prompt
says.  A model that ignores the prompt can at best predict their mean.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    plain = "--config.flow.time_sampler.share_at_noise=0.0"
    noise = "--config.flow.time_sampler.share_at_noise=0.5"
    pooled = "--config.model.pooled_prompt=True"
    settings = {
        "times near noise": (plain,),
        "times near noise, pooled prompt": (plain, pooled),
        "half at noise": (noise,),
        "half at noise, pooled prompt": (noise, pooled),
    }
    overrides = (
        "--config.flow.time_sampler.mean=-0.8",
        "--config.flow.time_sampler.std=0.8",
        "--config.model.head=bands",
        "--config.model.text_slots=(28,14,68)",
        "--config.data.mixture.photos.task=control_mff",
        "--config.evaluations.held_out.task=control_mff",
        "--config.evaluations.held_out.count=18",
        "--config.flow.weighting=image",
        "--config.optimizer.learning_rate=1e-3",
    )
    return Sweep(settings, recipe="nano_m3", overrides=overrides)
