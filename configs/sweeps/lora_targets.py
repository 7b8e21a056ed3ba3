"""Which linear layers of OmniGen-v1 get adapters, at rank 64.

    ditfuse sweep lora_targets:/path/to/OmniGen-v1 --workdir runs/targets \\
        --config.data.mixture.photos.source=/my/photographs

Time and result: not measured.

The released code adapts the attention only, the paper all linear layers of the blocks.
"""

from ditfuse_jax.errors import UserError
from ditfuse_jax.sweep import Sweep

TARGETS = {
    "qkv": ("qkv_proj",),
    "attention (released)": ("qkv_proj", "o_proj"),
    "MLP": ("gate_up_proj", "down_proj"),
    "all (paper)": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
}


def get_sweep(arg: str = "") -> Sweep:
    """Returns the sweep; `arg` is the folder of the weights."""
    if not arg:
        raise UserError("name the weights: ditfuse sweep lora_targets:/path/to/OmniGen-v1")
    return Sweep(
        {name: (f"--config.lora.target_modules={targets}",) for name, targets in TARGETS.items()},
        recipe=f"omnigen_lora_paper:{arg}",
    )
