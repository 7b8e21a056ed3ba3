"""The same model in PyTorch: diffusers' `OmniGenTransformer2DModel` with plain loops around it."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from diffusers import OmniGenTransformer2DModel  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from ditfuse_jax.model import Layout, ModelConfig


class TorchModel:
    """A randomly initialised model of the given size for one layout of the sequence.

    Args:
      config: sizes; plain RoPE.
      layout: the sequence, without padding.
    """

    def __init__(self, config: ModelConfig, layout: Layout):
        torch.manual_seed(0)
        factors = [1.0] * (config.head_dim // 2)
        self.network: Any = OmniGenTransformer2DModel(
            in_channels=config.channels,
            patch_size=config.patch_size,
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            intermediate_size=config.intermediate_size,
            num_layers=config.num_layers,
            pad_token_id=0,
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position,
            original_max_position_embeddings=config.original_max_position,
            rope_scaling={"type": "su", "short_factor": factors, "long_factor": factors},
            pos_embed_max_size=config.pos_embed_max_size,
        )
        self.layout = layout
        self.optimizer = torch.optim.AdamW(self.network.parameters(), fused=True)

    def save(self, folder: Path) -> None:
        self.network.save_pretrained(folder)

    def predict(
        self, tokens: np.ndarray, images: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """Computes the velocity over the whole sequence, as diffusers' pipeline does.

        Args:
          tokens: (B, T), the text slots joined.
          images: (B, n, C, H, W).
          noisy: (B, C, H, W).
          t: (B,).

        Returns:
          (B, C, H, W).
        """
        batch, length = len(tokens), self.layout.length
        ids = torch.zeros(batch, self.layout.condition_length, dtype=torch.long)
        spans, read = [], 0
        for slot in self.layout.slots:
            size = slot.stop - slot.start
            if slot.kind == "text":
                ids[:, slot.start : slot.stop] = torch.from_numpy(tokens[:, read : read + size])
                read += size
            else:
                spans.append([slot.start, slot.stop])
        mask = torch.from_numpy(self.layout.full_mask.dense().astype("f4"))
        return self.network(
            hidden_states=noisy,
            timestep=t,
            input_ids=ids,
            input_img_latents=list(images.flatten(0, 1).unsqueeze(1)),
            input_image_sizes=dict.fromkeys(range(batch), spans),
            attention_mask=mask.expand(batch, length, length),
            position_ids=torch.arange(length).expand(batch, length),
            return_dict=False,
        )[0]

    @torch.inference_mode()
    def sample(
        self,
        tokens: np.ndarray,
        images: torch.Tensor,
        noise: torch.Tensor,
        weights: list[float],
        times: list[float],
    ) -> torch.Tensor:
        """Samples one image by guided Euler steps; rows are the guidance branches.

        Args:
          tokens: (R, T).
          images: (R, n, C, H, W).
          noise: (1, C, H, W).
          weights: of the R branches.
          times: (S + 1,) from 0 to 1.

        Returns:
          (1, C, H, W).
        """
        shares = torch.tensor(weights)[:, None, None, None]
        x = noise
        for begin, end in itertools.pairwise(times):
            rows = x.expand(len(weights), -1, -1, -1)
            velocity = self.predict(tokens, images, rows, torch.full((len(weights),), begin))
            x = x + (end - begin) * (shares * velocity).sum(0, keepdim=True)
        return x

    def train_step(
        self,
        tokens: np.ndarray,
        images: torch.Tensor,
        target: torch.Tensor,
        noise: torch.Tensor,
        t: torch.Tensor,
    ) -> float:
        """Takes one AdamW step on the flow-matching loss; returns the loss before it."""
        share = t[:, None, None, None]
        predicted = self.predict(tokens, images, share * target + (1 - share) * noise, t)
        loss = functional.mse_loss(predicted, target - noise)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()
