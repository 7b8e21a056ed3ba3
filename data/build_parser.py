"""Trains the instruction parser and writes its folder.

    python data/build_parser.py --workdir runs/parser --encoder FOLDER -o OUT

FOLDER holds a BERT encoder, `model.safetensors` and `vocab.txt`, which initialises the parser (its
first layers, and the rows of its frequent tokens and of the words of the sentences).
`--parser data/parser` trains an existing parser further; with `--encoder`, which it was made from,
it gets the words and the `--layers` that it does not have yet from there.  `--random` starts from
random parameters.  The same command continues an interrupted training.
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

from ditfuse_jax.errors import UserError
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
from ditfuse_jax.parser.vocabulary import frequent_tokens, words_for_sentences
from ditfuse_jax.parser.wordpiece import make_wordpiece
from ditfuse_jax.prompts.grammar import distinct_instructions

# Words that occur in none of the sentences, and sentences whose words are added.
_ALIKE, _SENTENCES = 2_500, 40_000


def read_encoder(folder: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Returns the vocabulary and the float32 tensors of a BERT encoder."""
    from safetensors.numpy import load_file

    weights = load_file(folder / "model.safetensors")
    words = (folder / VOCABULARY).read_text(encoding="utf-8").split("\n")
    return [word for word in words if word], {k: w.astype(np.float32) for k, w in weights.items()}


def encoder_layer(weights: Mapping[str, np.ndarray], index: int) -> dict:
    """Returns a layer of a BERT encoder as one of the parser's."""
    base = f"encoder.layer.{index}"

    def dense(name: str) -> dict:
        return {"kernel": weights[f"{name}.weight"].T.copy(), "bias": weights[f"{name}.bias"]}

    def norm(name: str) -> dict:
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    parts = [dense(f"{base}.attention.self.{n}") for n in ("query", "key", "value")]
    return {
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


def from_encoder(
    weights: Mapping[str, np.ndarray], config: ParserConfig, kept: list[int], rng
) -> dict:
    """Returns parser parameters with tokens and the first layers of a BERT encoder."""
    parameters = init_parser(config, rng)
    kinds = weights["embeddings.token_type_embeddings.weight"][0]
    positions = weights["embeddings.position_embeddings.weight"]
    words = weights["embeddings.word_embeddings.weight"]
    parameters["tokens"] = words[kept]
    parameters["positions"] = positions[1 : config.max_length + 1] + kinds
    first = words[101] + positions[0] + kinds  # [CLS]
    parameters["requests"] = first + parameters["requests"]
    parameters["norm"] = {
        "scale": weights["embeddings.LayerNorm.weight"],
        "bias": weights["embeddings.LayerNorm.bias"],
    }
    for k in range(config.num_layers):
        parameters["layers"][str(k)] = encoder_layer(weights, k)
    return parameters


def start(args: argparse.Namespace, rng) -> tuple[ParserConfig, list[str], dict]:
    """Returns sizes, vocabulary and parameters that training starts from."""
    vocabulary, weights = read_encoder(args.encoder) if args.encoder else ([], {})
    config, words, parameters, rows = None, [], {}, []
    if args.parser:
        config, parameters = read_parser(args.parser)
        text = (args.parser / VOCABULARY).read_text(encoding="utf-8")
        words = [word for word in text.split("\n") if word]
    elif args.encoder:
        rows = frequent_tokens(vocabulary)
    if args.encoder:
        rows += words_for_sentences(
            vocabulary,
            weights["embeddings.word_embeddings.weight"],
            words or [vocabulary[row] for row in rows],
            distinct_instructions(_SENTENCES, 0, "train"),
            _ALIKE,
        )
    words += [vocabulary[row] for row in rows]
    layers = args.layers or (config.num_layers if config else 3)
    if config is None:
        config = ParserConfig(
            len(words),
            hidden_size=args.width,
            num_layers=layers,
            num_heads=args.width // 32,
            intermediate_size=4 * args.width,
        )
        if args.random:
            return config, words, init_parser(config, rng)
        return config, words, from_encoder(weights, config, rows, rng)
    if args.encoder:
        added = weights["embeddings.word_embeddings.weight"][rows]
        parameters["tokens"] = np.concatenate([parameters["tokens"], added])
        for k in range(config.num_layers, layers):
            parameters["layers"][str(k)] = encoder_layer(weights, k)
    return dataclasses.replace(config, vocab_size=len(words), num_layers=layers), words, parameters


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


def check_layers(args: argparse.Namespace) -> None:
    """Checks that a parser that is trained further keeps its layers.

    Raises:
      UserError: `--layers` asks for fewer, or for more without an encoder to take them from.
    """
    if not (args.parser and args.layers):
        return
    if not args.encoder:
        raise UserError("--layers needs --encoder, which they are taken from")
    has = read_parser(args.parser)[0].num_layers
    if args.layers < has:
        raise UserError(f"--layers {args.layers}: {args.parser} has {has}; layers are only added")


def read_state(path: Path) -> tuple[int, dict, Any, ParserConfig, list[str]]:
    """Returns step, parameters, state of the optimiser, sizes and vocabulary of a training.

    Raises:
      UserError: the file is damaged, or of another version of this script.
    """
    try:
        step, parameters, state, config, words = pickle.loads(path.read_bytes())
    except Exception as error:  # whatever unpickling raises
        raise UserError(
            f"{path} is damaged or of another version of this script: remove it to start afresh, "
            "or name another --workdir"
        ) from error
    return step, parameters, state, config, words


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the instruction parser.")
    add = parser.add_argument
    add("--workdir", type=Path, required=True, help="where the state of training is kept")
    add("--encoder", type=Path, help="folder of a BERT encoder")
    add("--parser", type=Path, help="folder of a parser to train further")
    add("--random", action="store_true", help="only the encoder's vocabulary, random parameters")
    add("-o", "--output", type=Path, help="folder of the finished parser")
    add("--layers", type=int, help="default: those of the parser, or 3")
    add("--width", type=int, default=384)
    add("--steps", type=int, default=1800)
    add("--batch-size", type=int, default=128)
    add("--learning-rate", type=float, default=2e-4)
    add("--warmup", type=int, default=200, help="steps of rising learning rate")
    add("--seed", type=int, default=0, help="of the sentences")
    add("--every", type=int, default=250, help="steps between checkpoints and scores")
    args = parser.parse_args()
    if not (args.encoder or args.parser):
        parser.error("name --encoder, --parser or both")
    if args.random and (args.parser or not args.encoder):
        parser.error("--random needs --encoder alone")
    saved = args.workdir / "training.pickle"
    try:
        check_layers(args)
        before = read_state(saved) if saved.exists() else None
    except UserError as error:
        parser.error(str(error))
    make_folder(args.workdir)
    training = ParserTraining(
        args.steps, args.batch_size, args.learning_rate, warmup_steps=args.warmup, seed=args.seed
    )
    sets = {
        "train": distinct_instructions(500, 2**31, "train"),
        "heldout": distinct_instructions(1500, 1, "heldout"),
    }
    if before:
        step, parameters, state, config, words = before
        print(f"continuing at step {step}", flush=True)
    else:
        step = 0
        config, words, parameters = start(args, np.random.default_rng(training.seed))
        state = training.optimizer().init(parameters)
    tokenizer = make_wordpiece(words)
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
            write_bytes(saved, pickle.dumps((step, *host, config, words)))
            report(InstructionParser(config, tokenizer, host[0]), step, sets)
            since = time.time()
    if args.output:
        write_parser(args.output, config, words, jax.device_get(parameters))


if __name__ == "__main__":
    main()
