"""A smaller `small` for two CPU cores: the first of the bundled model's three runs, on fusion.

    ditfuse train --config small_cpu:DATA --workdir runs/small

Time: 70 minutes for 2,800 steps on 2 CPU cores.
Result: mean IoU .349 of six classes on CamVid's validation part; other scores were measured after
the third run only (docs/model_card.md).

DATA is a folder with `photos/*/` (photographs), `ivif/roadscene_train/` (RoadScene, `vi` and `ir`)
and `seg/camvid_train/` (CamVid, `images` and `labels`).  `small_cpu_words` continues from here.
"""

from pathlib import Path

from ditfuse_jax.train.recipe import Config, default_config

PHOTOGRAPHS = ("imagenet", "bsds", "urban100", "sun_hays80", "catsdogs")
# Task -> weight in the mixture.
FROM_PHOTOGRAPHS = {"m3": 1, "mff": 3, "mef_detail": 2, "control_mff": 1, "control_mef": 1}
FROM_PAIRS = {"ivif_detail": 3, "control_ivif": 2}
FROM_SCENES = {"segmentation": 5}


def get_config(arg: str = "data") -> Config:
    """Returns the recipe; `arg` is the folder of the data."""
    config = default_config("small")
    data = Path(arg)
    pairs = f"dataset:roadscene:partial@{data / 'ivif' / 'roadscene_train'}"
    scenes = f"labelled:{data / 'seg' / 'camvid_train'}"
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
            task: {"source": source, "task": task, "weight": float(share)}
            for source, tasks in ((pairs, FROM_PAIRS), (scenes, FROM_SCENES))
            for task, share in tasks.items()
        },
    }
    # 4.3 M parameters.
    config.model.hidden_size = 192
    config.model.num_layers = 6
    config.model.num_heads = 4
    config.model.num_kv_heads = 4
    config.model.intermediate_size = 512
    config.model.dtype = "float32"
    config.model.head = "bands"
    config.model.pooled_prompt = True
    config.model.text_slots = (28, 14, 68)
    config.data.crop = (160, 160)
    config.data.batch_size = 10
    config.data.workers = 0
    config.data.condition_dropout = 0.05
    config.flow.draws = 1
    config.flow.time_sampler.mean = -0.8  # near noise, and half of the times at noise
    config.flow.time_sampler.std = 0.8
    config.flow.time_sampler.share_at_noise = 0.5
    config.flow.weighting = "image"
    config.flow.gradient_loss_weight = 1.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 0.01
    config.train.steps = 2800
    config.train.spike_factor = 0.0  # the gradient norm grows at first
    config.train.ema_decay = 0.998
    config.train.log_every = 20
    config.train.checkpoint_every = 100
    config.evaluations.held_out.every = 1400
    config.sample.steps = 2  # one of the whole image, one of its tiles
    config.sample.guidance_scale = 1.0
    config.sample.image_guidance_scale = 1.0
    config.sample.limit_chroma = True
    config.sample.refine = True
    config.sample.max_side = 0  # tiles: any size
    config.sample.tile = 160  # as in training
    config.sample.global_steps = 1  # recognises the scene and sets tones
    return config
