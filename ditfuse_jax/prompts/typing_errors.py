"""Typing errors and other noise in sentences."""

import zlib

from ditfuse_jax.prompts.phrases import PhraseChooser, grammar_file

# Keys of three rows; those beside a key are its neighbours.
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    key: "".join(row[max(0, place - 1) : place + 2].replace(key, "") for row in _ROWS)
    for row_of_key in _ROWS
    for place, key in enumerate(row_of_key)
}
_HELDOUT_BUCKET = 5  # one in five random misspellings of a word never occurs in training


def misspell(text: str, choose: PhraseChooser) -> str:
    """Returns the text with one or two words misspelt, by frequent or by random errors."""
    words = text.split(" ")
    for _ in range(1 + choose.chance(0.3)):
        places = [k for k, word in enumerate(words) if len(word) > 3 and word.isalpha()]
        if not places:
            break
        place = choose.one_of(places)
        words[place] = _misspelt_word(words[place], choose)
    return " ".join(words)


def _misspelt_word(word: str, choose: PhraseChooser) -> str:
    known = grammar_file("wrappers")["misspelt"]
    split = "heldout" if choose.heldout and word in known["heldout"] else "train"
    if word in known[split] and choose.chance(0.7):
        choose.num_heldout += split == "heldout"
        return choose.one_of(known[split][word])
    for _ in range(8):
        changed = _random_error(word, choose)
        rare = zlib.crc32(f"{word} {changed}".encode()) % _HELDOUT_BUCKET == 0
        rare = changed not in known["train"].get(word, ()) and (
            rare or changed in known["heldout"].get(word, ())
        )
        if rare == choose.heldout and changed != word:
            choose.num_heldout += rare
            return changed
    return word


def _random_error(word: str, choose: PhraseChooser) -> str:
    k = int(choose.rng.integers(1, len(word) - 1))
    kind = choose.one_of(("swap", "swap", "drop", "double", "neighbour", "insert"))
    if kind == "swap":
        return word[:k] + word[k + 1] + word[k] + word[k + 2 :]
    if kind == "drop":
        return word[:k] + word[k + 1 :]
    if kind == "double":
        return word[: k + 1] + word[k:]
    near = choose.one_of(_NEIGHBOURS.get(word[k].lower(), "e"))
    return word[:k] + near + word[k + (kind == "neighbour") :]


def gibberish(choose: PhraseChooser) -> str:
    """Returns meaningless text: random letters, keys in a row, or letters of both in words."""
    letters = choose.one_of(("abcdefghijklmnopqrstuvwxyz", "asdfghjkl", "qwertyuiop", "aeiourstln"))
    words = []
    for _ in range(int(choose.rng.integers(1, 6))):
        length = int(choose.rng.integers(2, 10))
        words.append("".join(choose.one_of(letters) for _ in range(length)))
    return " ".join(words)


def drop_articles(text: str, choose: PhraseChooser) -> str:
    """Leaves out articles, as learners of English do."""
    return " ".join(w for w in text.split(" ") if w not in ("the", "a", "an") or choose.chance(0.3))


def change_case(text: str, choose: PhraseChooser) -> str:
    """Returns the text as it is, capitalised, in capitals, or with a final full stop."""
    kind = choose.one_of(("as is", "as is", "capital", "capital", "stop", "upper"))
    if kind == "capital":
        return text[:1].upper() + text[1:]
    if kind == "stop":
        return text[:1].upper() + text[1:] + ("" if text[-1:] in ".!?" else ".")
    return text.upper() if kind == "upper" and choose.chance(0.3) else text
