"""Standard tasks: the prompts behind `--task`, in the words and tags that training uses."""

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import as_prompt, has_placeholders, instruction_pool, join_instructions
from ditfuse_jax.tasks.control import POOLS

# Task -> instruction pool; the pool's first sentence is the standard one.
STANDARD_TASKS = {"fuse": "fusion", "ivif": "ivif", "mff": "mff", "mef": "mef"}
CONTROLS = {tag.lower(): pool for tag, pool in POOLS.items()}
SEGMENT = "segment"


def check_plain(task: str) -> None:
    """Refuses what is not one of `STANDARD_TASKS`.

    Raises:
      UserError: with those.
    """
    if task not in STANDARD_TASKS:
        raise UserError(f"task {task!r} is unknown here; choose from {', '.join(STANDARD_TASKS)}")


def standard_prompt(task: str, num_images: int, text: str | None = None) -> str:
    """The prompt of a standard task; `text` replaces its sentence, or is a whole prompt.

    Args:
      task: a key of `STANDARD_TASKS`, of `CONTROLS`, whose sentence follows one that asks for
        fusion, `segment:CLASS`, or `segment` for every class in its colour.
      num_images: that are fused.
      text: in which `{class}` stands for the class.

    Raises:
      UserError: unknown task, or placeholders in `text` that do not fit.
    """
    name, _, wanted = task.partition(":")
    if task in STANDARD_TASKS:
        pool = instruction_pool(STANDARD_TASKS[task])
    elif task in CONTROLS:
        pool = instruction_pool(CONTROLS[task])
    elif name == SEGMENT and wanted.strip():
        pool = instruction_pool("segmentation")
    elif task == SEGMENT:
        pool = instruction_pool("scene")
    else:
        words = (*STANDARD_TASKS, *CONTROLS, SEGMENT, f"{SEGMENT}:CLASS, like {SEGMENT}:car")
        known = ", ".join(words)
        raise UserError(f"task {task!r} is unknown; choose from {known}")
    words = pool.sentences[0] if text is None else text
    if task in CONTROLS and words.strip() and not has_placeholders(words):
        words = join_instructions(instruction_pool("fusion").sentences[0], words)
    if wanted:
        words = words.replace("{class}", wanted.strip())
    return as_prompt(words, num_images, pool.task, pool.tag)
