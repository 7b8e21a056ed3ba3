"""Measures how often the parser understands sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.evaluate.reports.tables import aligned_text, format_number
from ditfuse_jax.files import make_folder, write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.labelled_sentences import read_labelled
from ditfuse_jax.prompts.requests import Request, describe
from ditfuse_jax.resources import resource

Sentences = Mapping[str, tuple[Request, ...]]

# Sentences of the grammar that are drawn of each split, and the seed of both draws.
_COUNT = 1500
_SEED = 1
_SHOWN = 10  # misunderstood sentences


def default_sentences() -> dict[str, Sentences]:
    """Returns sentences of the two splits of the grammar, and those of the package for tests."""
    from ditfuse_jax.prompts.grammar import distinct_instructions

    return {
        "train": distinct_instructions(_COUNT, 2**31 + _SEED, "train"),
        "heldout": distinct_instructions(_COUNT, _SEED, "heldout"),
        **{
            name: read_labelled(resource("data", "instructions", f"{name}.tsv"))
            for name in ("everyday", "blind")
        },
    }


def evaluate_understanding(
    files: Sequence[Path] = (), *, output: Path | None = None, quiet: bool = False
) -> dict[str, dict[str, float]]:
    """Compares what the bundled parser finds in sentences with what they ask for.

    Args:
      files: see `read_labelled`; by default the sets of `default_sentences`.  Files of one name are
        named by their paths.
      output: a folder for `misunderstood.tsv`: set, sentence, its requests, those found.
      quiet: no table.

    Returns:
      Set -> `parser.scores.parsing_scores`.

    Raises:
      UserError: a file is wrong, or there is no parser.
    """
    from ditfuse_jax.parser.parse import load_parser
    from ditfuse_jax.parser.scores import parsing_scores

    read = [(path, read_labelled(path)) for path in map(as_path, files)]
    sets = {_set_name(path, files): found for path, found in read} or default_sentences()
    parser = load_parser()
    scores: dict[str, dict[str, float]] = {}
    wrong: list[tuple[str, ...]] = []
    for name, sentences in sets.items():
        found = [parsed.requests for parsed in parser(list(sentences))]
        scores[name] = parsing_scores(list(sentences.values()), found)
        for (sentence, wanted), got in zip(sentences.items(), found, strict=True):
            if wanted != got:
                wrong.append((name, sentence, describe(wanted), describe(got)))
    if output is not None:
        output = as_path(output)
        make_folder(output)
        lines = ["\t".join(row) for row in (("set", "sentence", "asks for", "understood"), *wrong)]
        write_text(output / "misunderstood.tsv", "\n".join(lines) + "\n")
    if not quiet:
        print(_table(sets, scores))
        for _, sentence, wanted, got in wrong[-_SHOWN:]:
            print(f"{sentence!r} asks for {wanted}; understood {got}")
    return scores


def _set_name(path: Path, files: Sequence[Path]) -> str:
    alike = [other for other in map(as_path, files) if other.stem == path.stem]
    return path.stem if len(alike) == 1 else str(path)


def _table(sets: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(key for row in scores.values() for key in row))
    rows = [("", *(f"{name} ({len(sets[name])})" for name in scores))]
    for key in names:
        values = (row.get(key, float("nan")) for row in scores.values())
        rows.append((key, *(format_number(value, 3) for value in values)))
    return aligned_text(rows)
