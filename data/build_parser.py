"""Trains the instruction parser and writes its folder.

    python data/build_parser.py --workdir runs/parser --encoder FOLDER -o OUT

FOLDER holds a BERT encoder, `model.safetensors` and `vocab.txt`, which initialises the parser (its
first layers, and the rows of its frequent tokens).  `--parser data/parser` trains an existing
parser further instead; `--vocabulary` starts from random parameters.  The same command continues an
interrupted training.
"""

import argparse
import dataclasses
import json
import pickle
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.files import make_folder, write_bytes, write_text
from ditfuse_jax.parser.network import ParserConfig, init_parser
from ditfuse_jax.parser.parse import (
    CONFIG,
    VOCABULARY,
    WEIGHTS,
    InstructionParser,
    read_parser,
)
from ditfuse_jax.parser.scores import parsing_scores
from ditfuse_jax.parser.training import ParserTraining, make_update, training_batches
from ditfuse_jax.parser.wordpiece import make_wordpiece
from ditfuse_jax.prompts.grammar import distinct_instructions

# BERT's vocabulary is roughly sorted by frequency.
_FREQUENT = 12_000


def frequent_tokens(vocabulary: list[str]) -> list[int]:
    """Returns the rows to keep: padding, unknown, and frequent tokens of ASCII letters."""
    kept = [vocabulary.index("[PAD]"), vocabulary.index("[UNK]")]
    for row, token in enumerate(vocabulary):
        plain = token.removeprefix("##")
        if token.startswith("["):
            continue
        short = len(plain) == 1 and plain.isascii()
        common = row < _FREQUENT and plain.isascii() and plain.isalpha()
        if short or common:
            kept.append(row)
    return kept


def read_encoder(folder: Path, config: ParserConfig, kept: list[int], rng) -> dict:
    """Returns parser parameters with the first layers of a BERT encoder."""
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    parameters = init_parser(config, rng)

    def get(name: str) -> np.ndarray:
        return weights[name].astype(np.float32)

    def dense(name: str) -> dict:
        return {"kernel": get(f"{name}.weight").T.copy(), "bias": get(f"{name}.bias")}

    def norm(name: str) -> dict:
        return {"scale": get(f"{name}.weight"), "bias": get(f"{name}.bias")}

    kinds = get("embeddings.token_type_embeddings.weight")[0]
    positions = get("embeddings.position_embeddings.weight")
    words = get("embeddings.word_embeddings.weight")
    parameters["tokens"] = words[kept]
    parameters["positions"] = positions[1 : config.max_length + 1] + kinds
    first = words[101] + positions[0] + kinds  # [CLS]
    parameters["requests"] = first + parameters["requests"]
    parameters["norm"] = norm("embeddings.LayerNorm")
    for k in range(config.num_layers):
        base = f"encoder.layer.{k}"
        parts = [dense(f"{base}.attention.self.{n}") for n in ("query", "key", "value")]
        parameters["layers"][str(k)] = {
            "qkv": {
                "kernel": np.concatenate([p["kernel"] for p in parts], axis=1),
                "bias": np.concatenate([p["bias"] for p in parts]),
            },
            "attention_out": dense(f"{base}.attention.output.dense"),
            "attention_norm": norm(f"{base}.attention.output.LayerNorm"),
            "up": dense(f"{base}.intermediate.dense"),
            "down": dense(f"{base}.output.dense"),
            "norm": norm(f"{base}.output.LayerNorm"),
        }
    return parameters


def write_parser(
    folder: Path, config: ParserConfig, words: Sequence[str], parameters: Mapping[str, Any]
) -> None:
    """Writes a folder that `load_parser` reads; the parameters as float16."""
    from safetensors.numpy import save

    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    tensors = {".".join(k.key for k in path): np.asarray(x, np.float16) for path, x in leaves}
    make_folder(folder)
    write_text(folder / CONFIG, json.dumps(dataclasses.asdict(config), indent=2) + "\n")
    write_text(folder / VOCABULARY, "\n".join(words) + "\n")
    write_bytes(folder / WEIGHTS, save(tensors))


def report(parser: InstructionParser, step: int, sets: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the scores on sets of sentences."""
    for name, sentences in sets.items():
        found = [one.requests for one in parser(list(sentences))]
        result = parsing_scores(list(sentences.values()), found)
        line = ", ".join(f"{key} {value:.3f}" for key, value in result.items())
        print(f"step {step}, {name}: {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the instruction parser.")
    add = parser.add_argument
    add("--workdir", type=Path, required=True, help="where the state of training is kept")
    add("--encoder", type=Path, help="folder of a BERT encoder")
    add("--parser", type=Path, help="instead of --encoder: folder of a parser to train further")
    add("--vocabulary", type=Path, help="instead of --encoder: folder of its vocab.txt only")
    add("-o", "--output", type=Path, help="folder of the finished parser")
    add("--layers", type=int, default=3)
    add("--width", type=int, default=384)
    add("--steps", type=int, default=1800)
    add("--batch-size", type=int, default=128)
    add("--learning-rate", type=float, default=2e-4)
    add("--seed", type=int, default=0, help="of the sentences")
    add("--every", type=int, default=250, help="steps between checkpoints and scores")
    args = parser.parse_args()
    sources = [args.encoder, args.parser, args.vocabulary]
    if sum(source is not None for source in sources) != 1:
        parser.error("name one of --encoder, --parser and --vocabulary")
    make_folder(args.workdir)
    source = next(source for source in sources if source is not None) / VOCABULARY
    vocabulary = [word for word in source.read_text(encoding="utf-8").split("\n") if word]
    kept = list(range(len(vocabulary))) if args.parser else frequent_tokens(vocabulary)
    words = [vocabulary[row] for row in kept]
    tokenizer = make_wordpiece(words)
    if args.parser:
        config, existing = read_parser(args.parser)
    else:
        existing = None
        config = ParserConfig(
            len(words),
            hidden_size=args.width,
            num_layers=args.layers,
            num_heads=args.width // 32,
            intermediate_size=4 * args.width,
        )
    training = ParserTraining(args.steps, args.batch_size, args.learning_rate, seed=args.seed)
    sets = {
        "train": distinct_instructions(500, 2**31, "train"),
        "heldout": distinct_instructions(1500, 1, "heldout"),
    }
    saved = args.workdir / "training.pickle"
    rng = np.random.default_rng(training.seed)
    if saved.exists():
        step, parameters, state = pickle.loads(saved.read_bytes())
        print(f"continuing at step {step}", flush=True)
    else:
        step = 0
        if existing is not None:
            parameters = existing
        elif args.encoder:
            parameters = read_encoder(args.encoder, config, kept, rng)
        else:
            parameters = init_parser(config, rng)
        state = training.optimizer().init(parameters)
    size = sum(x.size for x in jax.tree.leaves(parameters))
    print(f"{size / 1e6:.2f} M parameters, {len(words)} tokens", flush=True)
    parameters, state = jax.tree.map(jnp.asarray, (parameters, state))
    update = make_update(training, config)
    losses, since = [], time.time()
    for batch in training_batches(training, tokenizer, config, step):
        parameters, state, loss = update(parameters, state, batch)
        step += 1
        losses.append(loss)
        if step % 25 == 0:
            seconds = (time.time() - since) / 25
            mean = np.mean(jax.device_get(losses[-25:]))
            print(f"step {step} of {args.steps}, loss {mean:.4f}, {seconds:.2f} s", flush=True)
            since = time.time()
        if step % args.every == 0 or step == args.steps:
            host = jax.device_get((parameters, state))
            write_bytes(saved, pickle.dumps((step, *host)))
            report(InstructionParser(config, tokenizer, host[0]), step, sets)
            since = time.time()
    if args.output:
        write_parser(args.output, config, words, jax.device_get(parameters))


if __name__ == "__main__":
    main()
