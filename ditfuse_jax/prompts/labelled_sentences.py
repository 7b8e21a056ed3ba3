"""Files of sentences with the requests that they make."""

from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts.requests import Request, parse_requests


def read_labelled(path: Path) -> dict[str, tuple[Request, ...]]:
    """Reads lines of `SENTENCE<TAB>REQUESTS`, such as `a bit brighter<TAB>brightness +1`.

    Raises:
      UserError: the file cannot be read, or a line is wrong; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error})") from error
    sentences = {}
    for number, line in enumerate(lines, 1):
        sentence, tab, requests = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise UserError(f"{path}:{number}: write the sentence, a tab and its requests")
        try:
            sentences[sentence] = parse_requests(requests)
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from error
    if not sentences:
        raise UserError(f"{path} holds no sentence")
    return sentences
