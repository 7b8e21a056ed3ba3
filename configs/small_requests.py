"""`small_cpu_longer` taught requests: all axes, regions and repair.

    ditfuse train --config small_requests:DATA --workdir runs/small_requests

Time: 4 s for a step on 2 CPU cores.
Result: docs/model_card.md has that of the first 1,300 steps, `data/small_requests`.

It continues from the bundled model and adds `model.adjustments`.  Requests are taught by tags
(`tasks/requested.py`); `sample.requests` says which, so that sentences are parsed for them.  DATA
is as for `small_cpu`; after a comma other weights than the bundled model's may be named, such as
`data/small_requests`.
"""

from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.recipe import Config, load_recipe, shared_mixture

# Task -> weight in the mixture.
FROM_PHOTOGRAPHS = {
    **{"m3_extended": 0.6, "mff": 1.0, "mef_detail": 0.8},
    **{"requested_mff": 1.0, "requested_mef": 1.0, "requested_m3": 0.4},
}
FROM_PAIRS = {"ivif_detail": 1.2, "requested_ivif": 2.0}
FROM_SCENES = {"requested_streets": 6.0, "segmentation": 1.0, "scene": 1.0}


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
        config.model.adjustments = True
        config.model.text_slots = (56, 14, 68)
        config.data.mixture = shared_mixture(
            (folders, FROM_PHOTOGRAPHS), ([pairs], FROM_PAIRS), ([scenes], FROM_SCENES)
        )
        config.data.tag_dropout = 0.0
        config.seed = 2
        config.train.steps = 6000
        config.evaluations.held_out.every = 3000
        config.sample.requests = (
            "brightness,contrast,saturation,detail,emphasis,repair,segment,regions,compounds"
        )
    return config
