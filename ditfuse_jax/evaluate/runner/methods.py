"""Methods: folders of fused images, whatever made them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.baselines import BASELINES, CEILINGS, is_baseline, method_title
from ditfuse_jax.evaluate.runner.scenes import Scenes
from ditfuse_jax.images import files_by_stem
from ditfuse_jax.paths import as_path

DEFAULT_METHOD = "fused"  # the name of a model's images, and of a single folder without a name
# Titles of pictures beside those of the methods.
VIEW_TITLES: tuple[str, ...] = ("View A", "View B", "View C", "View D")
FUSED_TITLE, CLEAN_TITLE = (
    "Fused",
    "Clean",
)  # of the method `DEFAULT_METHOD`, and of the clean image


def parse_methods(arguments: Iterable[str], beside_model: bool = False) -> dict[str, Path]:
    """Parses `NAME=DIR` or `DIR`; without a name, the method is named after the folder.

    Args:
      arguments: values of `--fused`.
      beside_model: whether a model is evaluated too.  If not, a single folder without a name is
        the method "fused".

    Returns:
      Method -> folder.

    Raises:
      UserError: two methods of one name, or the name of a baseline.
    """
    pairs = []
    for argument in arguments:
        name, sign, folder = argument.partition("=")
        named = bool(sign) and not as_path(argument).exists()
        pairs.append((name, as_path(folder)) if named else ("", as_path(argument)))
    methods: dict[str, Path] = {}
    for name, folder in pairs:
        name = name or (DEFAULT_METHOD if len(pairs) == 1 and not beside_model else folder.name)
        if name in methods:
            raise UserError(f"two methods are called {name!r}: give them names, NAME=DIR")
        methods[name] = as_path(folder)
    check_method_names(methods)
    return methods


def check_method_names(methods: Iterable[str]) -> None:
    """Checks that no method has an empty name, or that of a baseline or of another picture.

    Raises:
      UserError: one has.
    """
    others = {FUSED_TITLE, CLEAN_TITLE, *VIEW_TITLES, *map(method_title, (*BASELINES, *CEILINGS))}
    for name in methods:
        if not name or is_baseline(name) or name in others:
            raise UserError(f"a method cannot be called {name!r}: give it another name, NAME=DIR")


def method_files(
    methods: Mapping[str, Path], scenes: Scenes
) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Finds the fused images that belong to the scenes.

    Returns:
      Method -> stem -> file; and the stems that some method lacks, with the reason: all methods
      are compared on the same images.

    Raises:
      UserError: a folder is missing or empty, contains a stem twice, or has no image of any scene.
    """
    files: dict[str, dict[str, Path]] = {}
    missing: dict[str, str] = {}
    for name, folder in methods.items():
        found = files_by_stem(folder)
        files[name] = {stem: found[stem] for stem in scenes.readers if stem in found}
        if not files[name]:
            stem = next(iter(scenes.readers))
            raise UserError(f"{folder}: no image named {stem} or like any other scene")
        for stem in scenes.readers:
            if stem not in found:
                missing.setdefault(stem, f"{folder}: no image named {stem}")
    return files, missing
