"""The definition of a sweep: a recipe, settings that change it, and seeds."""

import ast
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.metrics import METRICS
from ditfuse_jax.registry import Registry
from ditfuse_jax.resources import resource
from ditfuse_jax.train.recipe import call_file

# Command-line arguments, like "--config.train.steps=100".
Arguments = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Settings to compare, each with every seed.

    Settings that differ only in how images are sampled (`--config.sample.*`, see
    `flow.SamplingConfig`) share one training.

    Attributes:
      settings: name -> overrides like "--config.train.steps=100"; a mapping or pairs.
      recipe: the argument of `ditfuse train --config`.
      seeds: of the trainings; of the sampling if nothing is trained.
      overrides: for all settings.
      checkpoint: a trained model to sample from, instead of training.
      evaluate: options of `ditfuse evaluate` that name the data of the scores, like
        ("--data", "/my/pairs", "--task", "ivif"); by default the scores are those of the recipe's
        own evaluation at the end of the training.
      metrics: names in `METRICS` of the scores to show, the most important first; all by default.
        Scalars of the recipe's evaluation NAME are called `NAME/PSNR_clean`.
      title: one line; by default the first line of the docstring of the file or function.
      imports: extensions that the trainings and evaluations load, see `load_extensions`.

    Raises:
      UserError: a value is invalid.
    """

    settings: Mapping[str, Sequence[str]] | Iterable[tuple[str, Sequence[str]]]
    recipe: str = ""
    seeds: Sequence[int] = (0, 1)
    overrides: Sequence[str] = ()
    checkpoint: str = ""
    evaluate: Sequence[str] = ()
    metrics: Sequence[str] = ()
    title: str = ""
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        given = self.settings
        pairs = list(given.items() if isinstance(given, Mapping) else given)
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            raise UserError("settings must map names to overrides: {'big': ('--config.a=1',)}")
        names = [name for name, _ in pairs]
        if not names or not all(isinstance(name, str) and name.strip() for name in names):
            raise UserError(f"settings need names, at least one, got {names}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two settings have the name {twice[0]!r}: rename one")
        overrides = {f"setting {name!r}": of_setting for name, of_setting in pairs}
        for where, some in {**overrides, "overrides": self.overrides}.items():
            _check_arguments(where, some, "--config.")
            if any(item.partition("=")[0] == "--config.seed" for item in some):
                raise UserError(
                    f"{where}: --config.seed has no effect, as every setting is trained with the "
                    "sweep's seeds: name them in its file, Sweep(..., seeds=(0, 1))"
                )
        _check_arguments("evaluate", self.evaluate, "")
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
                "a sweep of a checkpoint needs evaluate=('--data', ...), the data of its scores"
            )
        # What an evaluation of the recipe returns is known only after it ran.
        of_recipe = [name for name in self.metrics if "/" in name and not self.evaluate]
        unknown = [name for name in self.metrics if name not in (*METRICS, *of_recipe)]
        if unknown:
            raise UserError(f"metric {unknown[0]!r} is unknown; choose from {', '.join(METRICS)}")

    def items(self) -> list[tuple[str, Sequence[str]]]:
        """Returns the names and overrides of the settings."""
        return list(dict(self.settings).items())


def load_sweep(
    name: str, recipe: str = "", overrides: Sequence[str] = (), imports: Sequence[str] = ()
) -> Sweep:
    """Loads a sweep.

    Args:
      name: a name in `SWEEPS`, or the path of a Python file with `get_sweep`; `name:argument`
        passes an argument to the function.
      recipe: replaces the sweep's own.
      overrides: for all settings, after the sweep's own.
      imports: extensions beside the sweep's own.

    Raises:
      UserError: there is no such sweep, its function fails or does not return a `Sweep`.
    """
    name, _, argument = name.partition(":")
    if name.endswith(".py"):
        get_sweep, path = functools.partial(_call_file, Path(name)), name
    else:
        get_sweep, path = SWEEPS.find(name), f"sweep {name}"
    try:
        made = get_sweep(argument)
    except UserError as error:
        where = "" if path in str(error) else f"{path}: "
        raise UserError(f"{where}{error}") from error
    if not isinstance(made, Sweep):
        raise UserError(f"{path}: get_sweep() returns {type(made).__name__}, not a Sweep")
    if recipe and made.checkpoint:
        raise UserError(
            f"{path} samples from {made.checkpoint} and trains no recipe: omit the recipe"
        )
    docstring = (get_sweep.__doc__ or "").strip()
    return dataclasses.replace(
        made,
        recipe=recipe or made.recipe,
        overrides=(*made.overrides, *overrides),
        imports=tuple(dict.fromkeys((*made.imports, *imports))),
        title=made.title or docstring.partition("\n")[0].rstrip("."),
    )


def _call_file(path: Path, argument: str) -> Sweep:
    """Calls `get_sweep` of a Python file; the title is by default the file's docstring."""
    made = call_file("sweep", path, "get_sweep", argument)
    if not isinstance(made, Sweep) or made.title:
        return made
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    return dataclasses.replace(made, title=docstring.partition("\n")[0].rstrip("."))


def _check_arguments(where: str, arguments: Sequence[str], prefix: str) -> None:
    if isinstance(arguments, str) or not all(isinstance(item, str) for item in arguments):
        raise UserError(f"{where} must be a tuple of strings, got {arguments!r}")
    for item in arguments:
        if not item.startswith(prefix):
            raise UserError(f"{where}: {item!r} is not an override like --config.a.b=value")


# Functions that take the argument after the name, or "", and return a `Sweep`.
SWEEPS: Registry[Callable[[str], Sweep]] = Registry(
    "sweep",
    {
        path.stem: functools.partial(_call_file, path)
        for path in sorted(resource("configs", "sweeps").glob("[!_]*.py"))
    },
)
