"""`small_cpu` trained further on instructions and streets: the second run of the bundled model.

    ditfuse train --config small_cpu:DATA --workdir runs/small
    ditfuse train --config small_cpu_words:DATA,runs/small --workdir runs/small_words

Time: 68 minutes for 2,350 steps on 2 CPU cores.
Result: mean IoU .497 of six classes on CamVid's validation part (docs/model_card.md).

A third of the prompts lose their tags, so that the model learns to follow the sentences; every
second example shows a street and asks for one class or for all.  DATA is as for `small_cpu`.
`small_cpu_longer` continues from here.
"""

from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.recipe import Config, load_recipe, shared_mixture

# Task -> weight in the mixture.
FROM_PHOTOGRAPHS = {"m3": 1.0, "mff": 2.0, "mef_detail": 1.5, "control_mff": 1, "control_mef": 1}
FROM_PAIRS = {"ivif_detail": 1.5, "control_ivif": 1.5}
FROM_SCENES = {"segmentation": 7.0, "scene": 4.0}


def get_config(arg: str = "data") -> Config:
    """Returns the recipe; `arg` is the folder of the data, and after a comma the weights'."""
    folder, _, weights = arg.partition(",")
    config = load_recipe(f"small_cpu:{folder}")
    with config.unlocked():
        if weights:
            initialize_from(config, weights)
        config.model.conv_stem = True
        _set_mixture(config)
        config.data.tag_dropout = 1 / 3
        config.flow.time_sampler.share_at_noise = 0.8
        config.optimizer.kind = "muon"
        config.optimizer.learning_rate = 2e-3
        config.train.steps = 2350
        config.evaluations.held_out.every = 1175
        config.sample.class_map = True  # the task `scene` teaches to mark all classes
        config.sample.class_map_side = 240  # cars are found better in two sizes
        config.sample.class_overlays = "sky"  # the surest class alone: docs/model_card.md
    return config


def _set_mixture(config: Config) -> None:
    """Sets the weights of the tasks; those on photographs are divided among the folders."""
    mixture = config.data.mixture
    pairs = mixture.ivif_detail.source
    scenes = mixture.segmentation.source
    folders = [part.source for part in mixture.values() if part.task == "m3"]
    config.data.mixture = shared_mixture(
        (folders, FROM_PHOTOGRAPHS), ([pairs], FROM_PAIRS), ([scenes], FROM_SCENES)
    )
