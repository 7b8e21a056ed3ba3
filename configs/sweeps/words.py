"""How words reach the image: their share of training at pure noise, and a short way to the target.

    ditfuse sweep words --workdir runs/words

Targets are brighter, darker, flatter or starker than the sources, as the prompt says.  A model that
does not listen can at best hit their mean.
"""

from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is not used."""
    del arg
    plain = "--config.flow.time_sampler=noisy_logit_normal"
    noise = "--config.flow.time_sampler=half_at_noise"
    pooled = "--config.model.pooled_prompt=True"
    settings = {
        "times near noise": (plain,),
        "times near noise, pooled prompt": (plain, pooled),
        "half at noise": (noise,),
        "half at noise, pooled prompt": (noise, pooled),
    }
    overrides = (
        "--config.model.head=bands",
        "--config.model.text_slots=(28,14,68)",
        "--config.data.mixture.photos.task=control_mff",
        "--config.evaluations.held_out.task=control_mff",
        "--config.evaluations.held_out.count=18",
        "--config.flow.weighting=image",
        "--config.optimizer.learning_rate=1e-3",
    )
    return Sweep(settings, recipe="nano_m3", overrides=overrides)
