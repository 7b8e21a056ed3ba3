"""What a sweep is: a recipe, settings that change it, and seeds; written as a Python file."""

import ast
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.resources import resource
from ditfuse_jax.train.recipe import call_file

Words = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Settings to compare, each with every seed.

    Settings that differ only in how images are sampled (`--config.sample.*`, see
    `flow.SamplingConfig`) share one training.

    Attributes:
      settings: name -> words like "--config.train.steps=100"; also given as pairs of both.
      recipe: as `ditfuse train --config` takes it.
      seeds: of the trainings; of the sampling where nothing is trained.
      overrides: words for all settings.
      checkpoint: a trained model to sample from, instead of training.
      evaluate: words of `ditfuse evaluate` that say on what every run is scored, like
        ("--data", "/my/pairs", "--task", "ivif"); by default scores are those of the recipe's
        `evaluation` section at the end of the training.
      metrics: names in `METRICS` of the scores to show, the one that matters most first; all by
        default.
      title: one line; by default the first line of the file's docstring.

    Raises:
      UserError: it cannot be what it is meant to be.
    """

    settings: Mapping[str, Sequence[str]] | Iterable[tuple[str, Sequence[str]]]
    recipe: str = ""
    seeds: Sequence[int] = (0, 1)
    overrides: Sequence[str] = ()
    checkpoint: str = ""
    evaluate: Sequence[str] = ()
    metrics: Sequence[str] = ()
    title: str = ""

    def __post_init__(self) -> None:
        given = self.settings
        pairs = list(given.items() if isinstance(given, Mapping) else given)
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            raise UserError("settings must be names and their words: {'big': ('--config.a=1',)}")
        names = [name for name, _ in pairs]
        if not names or not all(isinstance(name, str) and name.strip() for name in names):
            raise UserError(f"settings need names, at least one, got {names}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two settings are called {twice[0]!r}: rename one")
        words = {f"setting {name!r}": of_setting for name, of_setting in pairs}
        for where, some in {**words, "overrides": self.overrides}.items():
            _check_words(where, some, "--config.")
        _check_words("evaluate", self.evaluate, "")
        object.__setattr__(self, "settings", {name: tuple(some) for name, some in pairs})
        seeds = list(self.seeds)
        if not seeds or len(set(seeds)) < len(seeds):
            raise UserError(f"seeds must be different numbers, at least one, got {seeds}")
        if not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise UserError(f"seeds must be whole numbers from 0, got {seeds}")
        if bool(self.recipe) == bool(self.checkpoint):
            raise UserError("a sweep needs either a recipe to train or a checkpoint to sample from")
        if self.checkpoint and not self.evaluate:
            raise UserError(
                "a sweep of a checkpoint needs evaluate=('--data', ...): on what it is scored"
            )
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise UserError(f"metric {unknown[0]!r} is unknown; choose from {', '.join(METRICS)}")

    def items(self) -> list[tuple[str, Sequence[str]]]:
        """Names and words of the settings."""
        return list(dict(self.settings).items())


def load_sweep(name: str, recipe: str = "", overrides: Sequence[str] = ()) -> Sweep:
    """Loads a sweep file.

    Args:
      name: a shipped sweep (`block_size`), or the path of a Python file with `get_sweep`;
        `name:argument` hands `argument` to it.
      recipe: used instead of the file's.
      overrides: words for all settings, after the file's own.

    Raises:
      UserError: there is no such sweep, it fails, or gives no `Sweep`.
    """
    name, _, argument = name.partition(":")
    path = Path(name) if name.endswith(".py") else _shipped(name)
    try:
        made = call_file("sweep", path, "get_sweep", argument)
    except UserError as error:
        where = "" if str(path) in str(error) else f"{path}: "
        raise UserError(f"{where}{error}") from error
    if not isinstance(made, Sweep):
        raise UserError(f"{path}: get_sweep() returns {type(made).__name__}, not a Sweep")
    if recipe and made.checkpoint:
        raise UserError(f"{path} samples from {made.checkpoint} and trains no recipe: leave it out")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    return dataclasses.replace(
        made,
        recipe=recipe or made.recipe,
        overrides=(*made.overrides, *overrides),
        title=made.title or docstring.splitlines()[0].rstrip("."),
    )


def _shipped(name: str) -> Path:
    known = sorted(path.stem for path in resource("configs", "sweeps").glob("[!_]*.py"))
    if name not in known:
        raise UserError(
            f"sweep {name!r} is unknown; choose from {', '.join(known)}, or give the path of a "
            "Python file with get_sweep"
        )
    return resource("configs", "sweeps", f"{name}.py")


def _check_words(where: str, words: Sequence[str], prefix: str) -> None:
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{where} must be a tuple of words, got {words!r}")
    for word in words:
        if not word.startswith(prefix):
            raise UserError(f"{where}: {word!r} is no override: they look like --config.a.b=value")
