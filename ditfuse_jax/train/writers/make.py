"""The table of writers, and opening those that a recipe names."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry
from ditfuse_jax.train.console import write_line
from ditfuse_jax.train.run_folder import RunFolder
from ditfuse_jax.train.writers.html import open_html
from ditfuse_jax.train.writers.jsonl import open_jsonl
from ditfuse_jax.train.writers.mlflow_run import open_mlflow
from ditfuse_jax.train.writers.multi import MultiWriter, report
from ditfuse_jax.train.writers.tensorboard import open_tensorboard
from ditfuse_jax.train.writers.wandb_run import open_wandb
from ditfuse_jax.train.writers.writer import Writer

# Name -> factory, which takes the run folder and the resolved config as a plain dict.
WRITERS: Registry[Callable[[RunFolder, Mapping[str, Any]], Writer]] = Registry(
    "writer",
    {
        "jsonl": open_jsonl,
        "tensorboard": open_tensorboard,
        "wandb": open_wandb,
        "mlflow": open_mlflow,
        "html": open_html,
    },
)


def make_writers(
    names: Iterable[str],
    run: RunFolder,
    config: Mapping[str, Any],
    say: Callable[[str], None] = write_line,
) -> list[Writer]:
    """Opens the writers that a recipe names; one that fails is reported and left out.

    Args:
      names: in `WRITERS`.
      run: the run folder.
      config: the resolved config.
      say: prints a line.

    Raises:
      UserError: a writer is unknown or not installed; those that were opened are closed.
    """
    writers: list[Writer] = []
    try:
        for name in names:
            try:
                writers.append(WRITERS.find(name)(run, config))
            except UserError:
                raise
            except Exception as error:  # see `MultiWriter`
                say(report(name, error))
    except BaseException:
        MultiWriter(writers, say).close()
        raise
    return writers
