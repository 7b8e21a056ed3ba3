"""Files of sentences with the requests that they make."""

from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import Request, describe, parse_requests


def read_labelled(path: Path) -> dict[str, tuple[Request, ...]]:
    """Reads lines of `SENTENCE<TAB>REQUESTS`, such as `a bit brighter<TAB>brightness +1`.

    Raises:
      UserError: the file cannot be read, or a line is wrong or asks for something else than an
        earlier one with the same sentence; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error})") from error
    sentences: dict[str, tuple[Request, ...]] = {}
    for number, line in enumerate(lines, 1):
        sentence, tab, requests = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise UserError(f"{path}:{number}: write the sentence, a tab and its requests")
        try:
            wanted = parse_requests(requests)
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from error
        if sentences.setdefault(sentence, wanted) != wanted:
            raise UserError(
                f"{path}:{number}: {sentence!r} asks for {describe(sentences[sentence])} in an "
                f"earlier line and for {describe(wanted)} here: leave one out"
            )
    if not sentences:
        raise UserError(f"{path} holds no sentence")
    return sentences
