"""An independent reference of OmniGen's forward pass, built from library modules.

The backbone is transformers' Phi-3 (rotary tables, layers, norms, eager attention).  Patch
embeddings with the position table, timestep features and MLPs, and the modulated norm are
diffusers'.  This file adds only how OmniGen combines them: the sequence
`[condition | time | target]` of one sample without padding, and the attention mask.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
# PyTorch and diffusers are not among the requirements.

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.embeddings import PatchEmbed, TimestepEmbedding, Timesteps
from diffusers.models.normalization import AdaLayerNorm
from transformers import Phi3Config, Phi3Model

PATCH = 2
CHANNELS = 4

# Phi-3's ids are outside of a small vocabulary.
NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

# OmniGen's names -> names of the library modules.
NAMES = {
    "final_layer.adaLN_modulation.1.": "norm_out.linear.",
    "final_layer.linear.": "proj_out.",
    ".mlp.0.": ".linear_1.",
    ".mlp.2.": ".linear_2.",
}


class Reference(torch.nn.Module):
    """An OmniGen model in float32.

    Args:
      config: Phi-3's `config.json`.
      tensors: the weights by OmniGen's names.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Any]):
        super().__init__()
        # Copied because transformers changes the dict.
        phi3 = Phi3Config.from_dict(copy.deepcopy({**config, **NO_SPECIAL_TOKENS}))
        phi3._attn_implementation = "eager"
        self.llm = Phi3Model(phi3)
        width = phi3.hidden_size
        embedding: dict[str, Any] = {
            # Coordinates of the position table refer to 64 patches per side.
            "height": 64 * PATCH,
            "width": 64 * PATCH,
            "patch_size": PATCH,
            "in_channels": CHANNELS,
            "embed_dim": width,
            "pos_embed_max_size": 192,
        }
        self.x_embedder = PatchEmbed(**embedding)
        self.input_x_embedder = PatchEmbed(**embedding)
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
        # diffusers computes these.
        assert set(loaded.missing_keys) == {"x_embedder.pos_embed", "input_x_embedder.pos_embed"}
        self.eval()

    def gradients(self) -> dict[str, Any]:
        """Returns the gradients by OmniGen's names, as NumPy arrays."""
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
        """Computes the velocity of one sample.

        Args:
          ids: token ids of the condition; ignored at the places of images.
          spans: (start, stop) of every image in the condition.
          images: latents (C, H, W) of these images.
          noisy: (C, H, W) noisy target.
          t: time in [0, 1].
          longest: largest position of the forward pass that this sample belongs to; by default of
            the sample.

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
        # transformers selects LongRoPE's factors by the largest position in this tensor.
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
    """Returns (1, 1, N, N): 0 where a row attends to a column, else the lowest float32."""
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    for start, stop in spans:
        allowed[start:stop, start:stop] = True
    allowed[condition + 1 :] = True
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(length, length).masked_fill(~allowed, lowest)[None, None]


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
