"""`small` cut down to what two CPU cores train in half an hour: the model in the box.

    ditfuse train --config small_cpu:DATA --workdir runs/small
    ditfuse convert runs/small --to box --dtype bfloat16 -o data/small

It learns the three kinds of fusion, and M3.  DATA is a folder with `photos/*/` (photographs) and
`ivif/roadscene_train/` (RoadScene, `vi` and `ir`).  What it reaches is in docs/model_card.md.
"""

from pathlib import Path

from ditfuse_jax.train.recipe import Config, default_config

PHOTOGRAPHS = ("imagenet", "bsds", "urban100", "sun_hays80", "catsdogs")
# Task -> share of the examples.
FROM_PHOTOGRAPHS = {"m3": 1, "mff": 4, "mef_detail": 3}
FROM_PAIRS = {"ivif_detail": 4}


def get_config(arg: str = "data") -> Config:
    """Returns the recipe; `arg` is the folder of the data."""
    config = default_config("small")
    data = Path(arg)
    pairs = f"dataset:roadscene:partial@{data / 'ivif' / 'roadscene_train'}"
    config.data.mixture = {
        **{
            f"{folder}_{task}": {
                "source": str(data / "photos" / folder),
                "task": task,
                "weight": share / len(PHOTOGRAPHS),
            }
            for folder in PHOTOGRAPHS
            for task, share in FROM_PHOTOGRAPHS.items()
        },
        **{
            task: {"source": pairs, "task": task, "weight": float(share)}
            for task, share in FROM_PAIRS.items()
        },
    }
    # The head that copies band by band, and a transformer of 4.7 M parameters under it.
    config.model.hidden_size = 192
    config.model.num_layers = 6
    config.model.num_heads = 4
    config.model.num_kv_heads = 4
    config.model.intermediate_size = 512
    config.model.dtype = "float32"
    config.model.head = "bands"
    config.model.text_slots = (28, 14, 64)
    config.data.crop = (160, 160)
    config.data.batch_size = 10
    config.data.workers = 0
    config.data.condition_dropout = 0.05
    config.flow.draws = 1
    config.flow.time_sampler = "noisy_logit_normal"
    config.flow.weighting = "image"
    config.flow.detail = 1.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 0.01
    config.train.steps = 950
    config.train.spike_factor = 0.0  # gradients grow for a while
    config.train.ema_decay = 0.998
    config.train.log_every = 20
    config.train.checkpoint_every = 100
    config.train.evaluate_every = 950
    config.sample.steps = 4
    config.sample.guidance = 1.0
    config.sample.image_guidance = 1.0
    config.sample.max_side = 2048
    config.sample.tile = 160  # as it was trained
    return config
