"""`small_cpu_words` trained further, on other examples: the bundled model.

    ditfuse train --config small_cpu:DATA --workdir runs/small
    ditfuse train --config small_cpu_words:DATA,runs/small --workdir runs/small_words
    ditfuse train --config small_cpu_longer:DATA,runs/small_words --workdir runs/small_longer
    ditfuse convert runs/small_longer --to bundle --dtype bfloat16 -o data/small

Time: 93 minutes for 3,000 steps on 2 CPU cores.
Result: mean IoU .720 of six classes on CamVid's validation part (each marked alone .600), Qabf
.553 on TNO, .607 on RoadScene, .744 on Lytro and .754 on MEFB (docs/model_card.md has all scores).
"""

from ditfuse_jax.train.recipe import Config, load_recipe


def get_config(arg: str = "data") -> Config:
    """Returns the recipe; `arg` is the folder of the data, and after a comma the weights'."""
    config = load_recipe(f"small_cpu_words:{arg}")
    with config.unlocked():
        config.seed = 1
        config.train.steps = 3000
        config.evaluations.held_out.every = 1500
    return config
