"""`small_cpu_longer` trained further on marking the classes of streets, and on shifted pairs.

    ditfuse train --config small_cpu_streets:DATA --workdir runs/small_streets

Time: 4 s for a step on 2 CPU cores.
Result: not measured yet.

It continues from the bundled model.  Most examples are streets: photographs, M3 views, and
photographs of day and night beside simulated infrared, in varied light, colours and weather.  In
half of the infrared-visible pairs the infrared image is moved by up to 4 pixels.  Requests are
image operations (`sample.requests`), so levels of brightness and contrast are no longer trained.
DATA is as for `small_cpu`; after a comma other weights than the bundled model's may be named.
"""

from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.recipe import Config, load_recipe, shared_mixture

# Task -> weight in the mixture.
FROM_PHOTOGRAPHS = {"m3_misaligned": 0.6, "mff": 0.9, "mef_detail": 0.6}
FROM_PAIRS = {"ivif_misaligned": 1.6}
FROM_SCENES = {"segmentation_varied": 5.0, "scene_varied": 1.4}


def get_config(arg: str = "data") -> Config:
    """Returns the recipe; `arg` is the folder of the data, and after a comma the weights'."""
    folder, _, weights = arg.partition(",")
    config = load_recipe(f"small_cpu_longer:{folder}")
    with config.unlocked():
        mixture = config.data.mixture
        pairs = next(part.source for part in mixture.values() if part.task == "ivif_detail")
        scenes = next(part.source for part in mixture.values() if part.task == "segmentation")
        folders = [part.source for part in mixture.values() if part.task == "m3"]
        initialize_from(config, weights or "small")
        config.data.mixture = shared_mixture(
            (folders, FROM_PHOTOGRAPHS), ([pairs], FROM_PAIRS), ([scenes], FROM_SCENES)
        )
        config.seed = 3
        config.optimizer.learning_rate = 1.5e-3
        config.train.steps = 1200
        config.train.checkpoint_every = 50
        config.evaluations.held_out.every = 1200
        config.sample.requests = "segment"
    return config
