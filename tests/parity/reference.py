"""OmniGen's forward pass made of other people's modules: an independent reference.

The backbone is transformers' Phi-3 (rotary tables, layers, norms, eager attention); patches with
their position table, time features, time MLPs and the modulated norm are diffusers'.  What is
written here is only how the original joins them: the sequence `[condition | time | target]` of one
sample without padding, and who sees whom.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
# PyTorch and diffusers are in no requirement of ours.

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.embeddings import PatchEmbed, TimestepEmbedding, Timesteps
from diffusers.models.normalization import AdaLayerNorm
from transformers import Phi3Config, Phi3Model

PATCH = 2
CHANNELS = 4

# Phi-3's own ids lie outside a small vocabulary.
NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

# The original's names on the left, those of the library modules on the right.
NAMES = {
    "final_layer.adaLN_modulation.1.": "norm_out.linear.",
    "final_layer.linear.": "proj_out.",
    ".mlp.0.": ".linear_1.",
    ".mlp.2.": ".linear_2.",
}


class Reference(torch.nn.Module):
    """One random OmniGen in float32.

    Args:
      config: Phi-3's `config.json`.
      tensors: the weights under the original's names.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Any]):
        super().__init__()
        # A copy: transformers changes the dict inside.
        phi3 = Phi3Config.from_dict(copy.deepcopy({**config, **NO_SPECIAL_TOKENS}))
        phi3._attn_implementation = "eager"
        self.llm = Phi3Model(phi3)
        width = phi3.hidden_size
        front: dict[str, Any] = {
            # 64 patches a side is what a coordinate of the position table counts in.
            "height": 64 * PATCH,
            "width": 64 * PATCH,
            "patch_size": PATCH,
            "in_channels": CHANNELS,
            "embed_dim": width,
            "pos_embed_max_size": 192,
        }
        self.x_embedder = PatchEmbed(**front)
        self.input_x_embedder = PatchEmbed(**front)
        self.features = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_token = TimestepEmbedding(256, width)
        self.t_embedder = TimestepEmbedding(256, width)
        self.norm_out = AdaLayerNorm(width, norm_eps=1e-6, chunk_dim=1)
        self.proj_out = torch.nn.Linear(width, PATCH * PATCH * CHANNELS)
        loaded = self.load_state_dict(
            {_theirs(name): torch.tensor(x) for name, x in tensors.items() if name != "pos_embed"},
            strict=False,
        )
        assert not loaded.unexpected_keys, loaded.unexpected_keys
        # Computed by diffusers rather than read.
        assert set(loaded.missing_keys) == {"x_embedder.pos_embed", "input_x_embedder.pos_embed"}
        self.eval()

    def gradients(self) -> dict[str, Any]:
        """The gradients under the original's names, as NumPy arrays."""
        return {
            _original(name): parameter.grad.numpy()
            for name, parameter in self.named_parameters()
            if parameter.grad is not None
        }

    def forward(
        self,
        ids: Sequence[int],
        spans: Sequence[tuple[int, int]],
        images: Sequence[torch.Tensor],
        noisy: torch.Tensor,
        t: float,
        longest: int | None = None,
    ) -> torch.Tensor:
        """Predicts the velocity of one sample.

        Args:
          ids: token ids of the condition, anything where images stand.
          spans: (start, stop) of every image in the condition.
          images: the latents (C, H, W) that stand there.
          noisy: (C, H, W).
          t: the time.
          longest: the longest position of the forward pass that this sample is part of; by default
            its own.

        Returns:
          (C, H, W).
        """
        condition = self.llm.embed_tokens(torch.tensor([ids]))
        for (start, stop), image in zip(spans, images, strict=True):
            block = self.input_x_embedder(image[None])
            condition = torch.cat([condition[:, :start], block, condition[:, stop:]], dim=1)
        features = self.features(torch.tensor([t]))
        time = self.time_token(features)[:, None]
        x = torch.cat([condition, time, self.x_embedder(noisy[None])], dim=1)

        length = x.shape[1]
        # transformers chooses LongRoPE's factors by the largest position that it is given.
        positions = torch.tensor([[*range(length), length - 1 if longest is None else longest]])
        cos, sin = (table[:, :length] for table in self.llm.rotary_emb(x, positions))
        mask = _mask(length, len(ids), spans)
        for layer in self.llm.layers:
            x = layer(x, attention_mask=mask, position_embeddings=(cos, sin))
        x = self.llm.norm(x)[:, len(ids) + 1 :]

        x = self.proj_out(self.norm_out(x, temb=self.t_embedder(features)))
        rows, columns = noisy.shape[-2] // PATCH, noisy.shape[-1] // PATCH
        x = x.reshape(rows, columns, PATCH, PATCH, CHANNELS)
        return torch.einsum("hwpqc->chpwq", x).reshape(noisy.shape)


def _mask(length: int, condition: int, spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    """(1, 1, N, N): zero where a row sees a column, the lowest number where not."""
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    for start, stop in spans:
        seen[start:stop, start:stop] = True
    seen[condition + 1 :] = True
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(length, length).masked_fill(~seen, lowest)[None, None]


def _theirs(name: str) -> str:
    for original, theirs in NAMES.items():
        if not name.startswith("llm."):
            name = name.replace(original, theirs)
    return name


def _original(name: str) -> str:
    for original, theirs in NAMES.items():
        if not name.startswith("llm."):
            name = name.replace(theirs, original)
    return name
