"""Training of the instruction parser on sentences of the grammar."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tokenizers

from ditfuse_jax.parser.labels import to_labels
from ditfuse_jax.parser.network import ParserConfig, ParserParameters, parser_logits
from ditfuse_jax.parser.wordpiece import UNKNOWN, encode_texts
from ditfuse_jax.prompts.grammar import InstructionGrammar

# Padded lengths: one compiled program each.
LENGTHS = (12, 20, 32, 64, 96)
_SMOOTHING = 0.02  # label smoothing


@dataclasses.dataclass(frozen=True)
class ParserTraining:
    """How a parser is trained.

    Attributes:
      steps: number of updates.
      batch_size: sentences for each update.
      learning_rate: at its peak; a warm-up and a cosine decay to zero surround it.
      weight_decay: of AdamW, for matrices.
      warmup_steps: length of the warm-up.
      dropout: probability that a token is replaced by the unknown one.
      seed: of the sentences.
    """

    steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    warmup_steps: int = 200
    dropout: float = 0.03
    seed: int = 0

    def optimizer(self) -> optax.GradientTransformation:
        """Returns the optimiser with its schedule."""
        rate = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, self.warmup_steps, self.steps
        )
        decayed = functools.partial(jax.tree.map, lambda x: x.ndim > 1)
        adamw = optax.adamw(rate, weight_decay=self.weight_decay, mask=decayed)
        return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def training_batches(
    training: ParserTraining, tokenizer: tokenizers.Tokenizer, config: ParserConfig, start: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches from step `start` on; each depends on the seed and its step only."""
    for step in range(start, training.steps):
        rng = np.random.default_rng([training.seed, step])
        grammar = InstructionGrammar(rng)
        drawn = [grammar.draw() for _ in range(training.batch_size)]
        # Sorted by length so that both halves are padded little.
        texts, requests = zip(*sorted(drawn, key=lambda pair: len(pair[0])), strict=True)
        half = training.batch_size // 2
        batch: dict[str, Any] = {"halves": []}
        for part in (slice(0, half), slice(half, None)):
            tokens, valid = encode_texts(tokenizer, texts[part], config.max_length, LENGTHS)
            dropped = rng.random(tokens.shape) < training.dropout
            unknown = tokenizer.token_to_id(UNKNOWN) or 0
            tokens = np.where(dropped & valid, unknown, tokens).astype(np.int32)
            batch["halves"].append(
                {"tokens": tokens, "valid": valid, "labels": to_labels(requests[part])}
            )
        yield batch


def parser_loss(
    parameters: ParserParameters, config: ParserConfig, batch: Mapping[str, Any]
) -> jax.Array:
    """Returns the sum of the outputs' cross entropies, averaged over the sentences."""
    logits = parser_logits(parameters, config, batch["tokens"], batch["valid"], jnp)
    labels = batch["labels"]
    count = batch["tokens"].shape[0]
    total = jnp.zeros(())
    for name in ("axis", "level", "role", "defect"):
        values, targets = logits[name], labels[name]
        onehot = jax.nn.one_hot(targets, values.shape[-1])
        onehot = optax.smooth_labels(onehot, _SMOOTHING)
        losses = optax.softmax_cross_entropy(values, onehot)
        total += jnp.sum(losses * (targets >= 0)) / count
    losses = optax.sigmoid_binary_cross_entropy(logits["classes"], labels["classes"])
    asked = labels["axis"] < logits["axis"].shape[-1] - 1
    return total + jnp.sum(losses * asked[..., None]) / count


def make_update(training: ParserTraining, config: ParserConfig):
    """Returns `update(parameters, state, batch) -> parameters, state, loss`, not yet donated."""
    optimizer = training.optimizer()

    def gradients(parameters: Any, batch: Any) -> Any:
        return jax.value_and_grad(parser_loss)(parameters, config, batch)

    compiled = jax.jit(gradients)

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def apply(parameters: Any, state: Any, total: Any) -> Any:
        updates, state = optimizer.update(total, state, parameters)
        return optax.apply_updates(parameters, updates), state

    def update(parameters: Any, state: Any, batch: Any) -> Any:
        (loss, total), (other, second) = (compiled(parameters, h) for h in batch["halves"])
        mean = jax.tree.map(lambda a, b: (a + b) / 2, total, second)
        parameters, state = apply(parameters, state, mean)
        return parameters, state, (loss + other) / 2

    return update
