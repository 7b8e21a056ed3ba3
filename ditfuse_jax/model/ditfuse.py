"""The whole model: from a condition and a noisy target to a prediction.

`__call__` runs the full sequence once (training).  For sampling, `encode` computes the condition's
keys and values, and `denoise` runs the target tokens with them, once per step.  No condition token
depends on the noise or the time, so both ways compute the same numbers.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from ditfuse_jax.model.adjustments import Adjustments
from ditfuse_jax.model.condition import Condition, EncodedCondition
from ditfuse_jax.model.config import ModelConfig
from ditfuse_jax.model.conv_stem import ConvStem
from ditfuse_jax.model.heads import make_head
from ditfuse_jax.model.layers import INIT_STD, Linear
from ditfuse_jax.model.layout import Layout
from ditfuse_jax.model.logical_axes import parameter, with_logical_constraint
from ditfuse_jax.model.patches import patchify, position_table
from ditfuse_jax.model.products import product
from ditfuse_jax.model.prompt_pooling import PromptPooling
from ditfuse_jax.model.rngs import Rngs
from ditfuse_jax.model.rope import rope_tables
from ditfuse_jax.model.timestep import TimestepMLP, timestep_features
from ditfuse_jax.model.transformer import TokenInputs, Transformer


class DiTFuse(nnx.Module):
    """Instruction-driven image fusion transformer (arXiv 2512.07170 on OmniGen, 2409.11340)."""

    def __init__(self, config: ModelConfig, *, rngs: Rngs):
        self.config = config
        width, patch, channels = config.hidden_size, config.patch_size, config.channels

        def patch_embedding() -> Linear:
            return Linear(
                (patch, patch, channels),
                (width,),
                (None, None, None, "embed"),
                rngs=rngs,
                dtype=config.dtype,
                bias=True,
            )

        table = jax.random.normal(rngs.params(), (config.vocab_size, width)) * INIT_STD
        self.embed_tokens = parameter(table, "vocab", "embed")
        self.x_embedder = patch_embedding()
        self.input_x_embedder = patch_embedding()
        self.source_embedder = (
            Linear(
                (config.max_images, patch, patch, channels),
                (width,),
                (None, None, None, None, "embed"),
                rngs=rngs,
                dtype=config.dtype,
            )
            if config.source_skip
            else None
        )
        self.source_stem = ConvStem(config, rngs=rngs) if config.conv_stem else None
        self.prompt_pool = PromptPooling(config, rngs=rngs) if config.pooled_prompt else None
        self.time_token = TimestepMLP(width, rngs=rngs, dtype=config.dtype)
        self.t_embedder = TimestepMLP(width, rngs=rngs, dtype=config.dtype)
        self.transformer = Transformer(config, rngs=rngs)
        self.head = make_head(config, rngs=rngs)
        self.adjustments = Adjustments(config, rngs=rngs) if config.adjustments else None

    def layout(self, condition: Condition, draws: int = 1) -> Layout:
        """Returns the slots of this condition's sequence."""
        _, count, height, width, _ = condition.images.shape
        first, middle, last = self.config.text_slots
        patch = self.config.patch_size
        return Layout(
            text=(first, *(middle,) * (count - 1), last),
            grid=(height // patch, width // patch),
            draws=draws,
        )

    def __call__(
        self,
        condition: Condition,
        noisy: jax.Array,
        t: jax.Array,
        longest: jax.Array | None = None,
    ) -> jax.Array:
        """Computes predictions for K noisy targets per condition, independent of each other.

        Args:
          condition: B conditions.
          noisy: (B, K, H, W, C) targets x_t.
          t: (B, K) times in [0, 1]; 0 is noise.
          longest: (B,) see `rope_tables`; by default the largest position of this batch.

        Returns:
          (B, K, H, W, C) float32: velocities or clean images; see `ModelConfig.prediction`.
        """
        layout = self.layout(condition, draws=noisy.shape[1])
        embedded, valid = self._embed_condition(condition, layout)
        positions, draw_positions = layout.positions(valid)
        if longest is None:
            longest = batch_longest(draw_positions)
        positions = jnp.concatenate([positions, *[draw_positions] * layout.draws], axis=1)
        cos, sin = rope_tables(self.config, positions, longest)
        draws = self._embed_draws(noisy, t, layout.grid, self.target_bias(condition))
        batch = noisy.shape[0]
        draw_valid = jnp.ones((batch, draws.shape[1]), bool)
        tokens = TokenInputs(cos, sin, jnp.concatenate([valid, draw_valid], axis=1))
        sequence = jnp.concatenate([embedded, draws], axis=1)
        hidden, _ = self.transformer(sequence, tokens, layout.full_mask)
        hidden = hidden[:, layout.condition_length :]
        return self._decode(hidden, t, condition, layout)

    def encode(self, condition: Condition, longest: jax.Array | None = None) -> EncodedCondition:
        """Computes the condition's keys and values for `denoise`.

        Args:
          condition: B conditions.
          longest: (B,) see `rope_tables`; by default the largest position of this batch.
        """
        layout = self.layout(condition)
        embedded, valid = self._embed_condition(condition, layout)
        positions, draw_positions = layout.positions(valid)
        if longest is None:
            longest = batch_longest(draw_positions)
        cos, sin = rope_tables(self.config, positions, longest)
        _, key_values = self.transformer(
            embedded, TokenInputs(cos, sin, valid), layout.condition_mask, return_key_values=True
        )
        draw_cos, draw_sin = rope_tables(self.config, draw_positions, longest)
        assert key_values is not None
        return EncodedCondition(key_values, valid, draw_cos, draw_sin, self.target_bias(condition))

    def denoise(
        self, encoded: EncodedCondition, condition: Condition, noisy: jax.Array, t: jax.Array
    ) -> jax.Array:
        """Computes the prediction for one noisy target per condition.

        Args:
          encoded: result of `encode(condition)`.
          condition: the same condition; some heads use its images.
          noisy: (B, H, W, C) targets x_t.
          t: (B,) times in [0, 1].

        Returns:
          (B, H, W, C) float32; see `__call__`.
        """
        layout = self.layout(condition)
        hidden = self._hidden(encoded, layout, noisy, t)
        return self._decode(hidden, t[:, None], condition, layout)[:, 0]

    def decide(
        self, encoded: EncodedCondition, condition: Condition, noisy: jax.Array, t: jax.Array
    ) -> jax.Array:
        """Computes what the head `bands` takes from the tokens; arguments as of `denoise`.

        Returns:
          (B, h, w, C) float32, one row of values for each cell; see `BandsHead`.  With the
          condition's images, `heads.bands_planes.compose` makes the prediction of it.
        """
        layout = self.layout(condition)
        hidden = self._hidden(encoded, layout, noisy, t)[:, None, 1:]
        time = self.t_embedder(timestep_features(t[:, None]))
        return self.head.output(hidden, time, layout.grid)[:, 0]

    def _hidden(
        self, encoded: EncodedCondition, layout: Layout, noisy: jax.Array, t: jax.Array
    ) -> jax.Array:
        """Hidden states (B, 1 + P, D) of one noisy target per condition; see `denoise`."""
        draws = self._embed_draws(noisy[:, None], t[:, None], layout.grid, encoded.target_bias)
        draw_valid = jnp.ones((noisy.shape[0], layout.draw_length), bool)
        key_valid = jnp.concatenate([encoded.valid, draw_valid], axis=1)
        hidden, _ = self.transformer(
            draws,
            TokenInputs(encoded.cos, encoded.sin, key_valid),
            layout.draw_mask,
            prefix=encoded.key_values,
        )
        return hidden

    def _embed_condition(self, condition: Condition, layout: Layout) -> tuple[jax.Array, jax.Array]:
        texts = self._embed_texts(condition)
        patches = patchify(condition.images, self.config.patch_size)
        table = position_table(self.config, layout.grid)
        images = self.input_x_embedder(patches) + table.astype(self.config.dtype)
        valid = layout.condition_valid(condition.token_valid, condition.image_valid)
        return with_logical_constraint(
            layout.join(texts, images), "batch", "sequence", "activation"
        ), valid

    def _embed_texts(self, condition: Condition) -> jax.Array:
        """Returns embedded tokens (B, T, D)."""
        table = self.embed_tokens[...].astype(self.config.dtype)
        # If the columns were sharded, the compiler would copy every token's row to every device.
        texts = with_logical_constraint(table, "vocab", "activation")[condition.tokens]
        return with_logical_constraint(texts, "batch", None, "activation")

    def target_bias(self, condition: Condition) -> jax.Array:
        """Returns what the condition adds to the target tokens, (B, P, D).

        That is the embedding of the sources' patches at the same place, the stem's features and the
        pooled prompt.
        """
        target_bias = self._embed_sources(condition)
        if self.source_stem is not None:
            target_bias += self.source_stem(condition.images, condition.image_valid)
        return self._with_prompt(target_bias, condition)

    def target_bias_by_rows(self, condition: Condition) -> jax.Array:
        """`target_bias` of a whole image with all its sources, for sampling on a CPU.

        It is computed for one row of patches after the other: what is in use at a time stays in the
        processor's cache.
        """
        images, patch, stem = condition.images, self.config.patch_size, self.source_stem
        cells = None if stem is None else stem.wide_cells(images)

        def one(row: jax.Array) -> jax.Array:
            strip = jax.lax.dynamic_slice_in_dim(images, patch * row, patch, axis=2)
            bias = self._embed_present(patchify(strip, patch))
            return bias if stem is None or cells is None else bias + stem.row_of_patches(cells, row)

        rows = jax.lax.map(one, jnp.arange(images.shape[2] // patch))
        bias = jnp.moveaxis(rows, 0, 1).reshape(images.shape[0], -1, rows.shape[-1])
        return self._with_prompt(bias, condition)

    def _with_prompt(self, target_bias: jax.Array, condition: Condition) -> jax.Array:
        if self.prompt_pool is not None:
            texts = self._embed_texts(condition)
            target_bias += self.prompt_pool(texts, condition.token_valid)[:, None]
        return target_bias

    def _embed_sources(self, condition: Condition) -> jax.Array:
        patches = patchify(condition.images, self.config.patch_size)
        batch, count, length = patches.shape[:3]
        if self.source_embedder is None:
            return jnp.zeros((batch, length, self.config.hidden_size), self.config.dtype)
        patches = jnp.where(condition.image_valid[:, :, None, None, None, None], patches, 0.0)
        patches = jnp.moveaxis(patches, 1, 2)
        absent = self.config.max_images - count
        padded = jnp.pad(patches, ((0, 0), (0, 0), (0, absent), (0, 0), (0, 0), (0, 0)))
        return self.source_embedder(padded)

    def _embed_present(self, patches: jax.Array) -> jax.Array:
        """Embeds patches (B, n, P, p, p, C) of sources that are all present to (B, P, D)."""
        if self.source_embedder is None:
            batch, _, length = patches.shape[:3]
            return jnp.zeros((batch, length, self.config.hidden_size), self.config.dtype)
        kernel = self.source_embedder.kernel[...][: patches.shape[1]]  # absent ones add nothing
        return product(jnp.moveaxis(patches, 1, 2), kernel, num_inputs=4)

    def _embed_draws(
        self, noisy: jax.Array, t: jax.Array, grid: tuple[int, int], target_bias: jax.Array
    ) -> jax.Array:
        """(B, K, H, W, C) and (B, K) -> (B, K * (1 + P), D)."""
        table = position_table(self.config, grid).astype(self.config.dtype)
        targets = self.x_embedder(patchify(noisy, self.config.patch_size)) + table
        targets = targets + target_bias[:, None]
        time = self.time_token(timestep_features(t))[:, :, None]
        draws = jnp.concatenate([time, targets], axis=2)
        return draws.reshape(draws.shape[0], -1, draws.shape[-1])

    def _decode(
        self, hidden: jax.Array, t: jax.Array, condition: Condition, layout: Layout
    ) -> jax.Array:
        batch, draws = t.shape
        hidden = hidden.reshape(batch, draws, layout.draw_length, -1)[:, :, 1:]
        time = self.t_embedder(timestep_features(t))
        image = self.head(hidden, time, condition.images, condition.image_valid, layout.grid)
        if self.adjustments is None:
            return image
        return self.adjustments(image, hidden, time, layout.grid)


def batch_longest(draw_positions: jax.Array) -> jax.Array:
    """Returns the largest position of the whole batch, repeated for every row (B,)."""
    return jnp.broadcast_to(jnp.max(draw_positions), draw_positions.shape[:1])
