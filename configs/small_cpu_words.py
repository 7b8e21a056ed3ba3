"""`small_cpu` trained on with words and streets: the second of the bundled model's three runs.

    ditfuse train --config small_cpu:DATA --workdir runs/small
    ditfuse train --config small_cpu_words:DATA,runs/small --workdir runs/small_words

A third of the prompts lose their tags, so that words alone are obeyed; every second example is of
a street and asks for one class or for all.  DATA is as for `small_cpu`; seventy minutes on two
CPU cores.  `small_cpu_longer` goes on from here; what it reaches is in docs/model_card.md.
"""

from pathlib import Path

from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.recipe import Config, load_recipe

# Task -> share of the examples.
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
        _share_out(config)
        config.data.tag_dropout = 1 / 3
        config.flow.time_sampler.share_at_noise = 0.8
        config.optimizer.kind = "muon"
        config.optimizer.learning_rate = 2e-3
        config.train.steps = 2350
        config.evaluations.held_out.every = 1175
    return config


def _share_out(config: Config) -> None:
    """Gives the mixture's tasks their shares, those of photographs over all folders alike."""
    mixture = config.data.mixture
    pairs = mixture.ivif_detail.source
    scenes = mixture.segmentation.source
    folders = [part.source for part in mixture.values() if part.task == "m3"]
    config.data.mixture = {
        f"{Path(source).name}_{task}": {"source": source, "task": task, "weight": share / len(of)}
        for of, tasks in (
            (folders, FROM_PHOTOGRAPHS),
            ([pairs], FROM_PAIRS),
            ([scenes], FROM_SCENES),
        )
        for task, share in tasks.items()
        for source in of
    }
