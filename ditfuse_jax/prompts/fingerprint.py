"""The identity of a tokenizer: a model only understands the token ids that it was trained with.

A fingerprint is `COUNT:DIGEST`.  The digest covers the tokens with the first COUNT ids, which of
them are special, the merges, and how text is normalized, split and framed.  A tokenizer to which
tokens were appended therefore passes the check against the fingerprint of its predecessor; one that
encodes the same text to other ids does not.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.tokenizer import load_tokenizer, tokenizer_folder

# Key of the fingerprint in the config of a checkpoint or of converted weights.
FINGERPRINT = "tokenizer_fingerprint"


def tokenizer_fingerprint(path: Path | str | None = None) -> str:
    """Returns the fingerprint of the tokenizer in a folder, by default of the shipped one.

    Raises:
      UserError: there is no readable tokenizer.
    """
    return _fingerprint(tokenizer_folder(path).resolve(), None)


def check_tokenizer(
    path: Path | str | None, fingerprint: str | None, vocab_size: int, model: str
) -> None:
    """Checks that a model understands a tokenizer.

    Args:
      path: folder of the tokenizer; None for the shipped one.
      fingerprint: of the tokenizer that the model was trained with, if it is known.
      vocab_size: rows of the model's embedding.
      model: the model's name for the message.

    Raises:
      UserError: the tokenizer encodes text otherwise than the one that the model was trained with,
        or it has more tokens than the model has embeddings.
    """
    folder = tokenizer_folder(path).resolve()
    count = len(load_tokenizer(path))
    if count > vocab_size:
        raise UserError(
            f"model.vocab_size {vocab_size} is too small for the {count} tokens of the tokenizer "
            f"in {folder}: raise it"
        )
    if not fingerprint:
        return
    try:
        known = int(fingerprint.partition(":")[0])
    except ValueError:
        raise UserError(f"{model} has a damaged tokenizer fingerprint {fingerprint!r}") from None
    if _fingerprint(folder, known) != fingerprint:
        raise UserError(
            f"{model} was trained with another tokenizer than the one in {folder}: its {known} "
            f"tokens, or how text is split into them, differ; use the tokenizer it was trained "
            "with, or train a new model"
        )


@functools.cache
def _fingerprint(folder: Path, count: int | None) -> str:
    tokenizer = load_tokenizer(folder)
    tokens = {i: token for token, i in tokenizer.get_vocab().items()}
    if count is None:
        count = max(tokens) + 1
    stored: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = [
        merge.split(" ", 1) if isinstance(merge, str) else list(merge)
        for merge in stored["model"].get("merges") or []
    ]
    content = {
        "tokens": [tokens.get(i) for i in range(count)],
        "merges": merges,
        "special": sorted(t["id"] for t in stored["added_tokens"] if t["id"] < count),
        **{name: stored.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")},
    }
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return f"{count}:{hashlib.sha256(text.encode()).hexdigest()}"
