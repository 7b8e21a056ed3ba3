"""The rank of the adapters that fine-tune OmniGen-v1, at the paper's scaling of 0.5.

    ditfuse sweep lora_rank:/path/to/OmniGen-v1 --workdir runs/rank \\
        --config.data.mixture.photos.source=/my/photographs

Time and result: not measured.
"""

from ditfuse_jax.errors import UserError
from ditfuse_jax.sweep import Sweep


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is the folder of the weights."""
    if not arg:
        raise UserError("name the weights: ditfuse sweep lora_rank:/path/to/OmniGen-v1")
    return Sweep(
        {
            f"rank {rank}": (f"--config.lora.rank={rank}", f"--config.lora.alpha={rank / 2}")
            for rank in (4, 8, 16, 32, 64, 128)
        },
        recipe=f"omnigen_lora_paper:{arg}",
    )
