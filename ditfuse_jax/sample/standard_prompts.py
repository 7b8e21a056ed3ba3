"""The prompts of `--task`: the sentences and tags that training uses."""

from ditfuse_jax.errors import UserError
from ditfuse_jax.prompts import INSTRUCTION_POOLS, as_prompt, has_placeholders, join_instructions
from ditfuse_jax.registry import Registry
from ditfuse_jax.tasks.control import POOLS

# Task -> name of its instruction pool, whose first sentence is the standard one.
STANDARD_TASKS: Registry[str] = Registry(
    "standard task", {"fuse": "fusion", "ivif": "ivif", "mff": "mff", "mef": "mef"}
)
# Task that changes brightness or contrast -> name of its instruction pool.
CONTROL_TASKS = {tag.lower(): pool for tag, pool in POOLS.items()}
SEGMENT = "segment"
# Tasks whose sources come from one camera and share the range of their samples.
ONE_CAMERA_TASKS = frozenset({"mff", "mef"})


def check_standard_task(task: str) -> None:
    """Checks that the task is one of `STANDARD_TASKS`.

    Raises:
      UserError: it is not; the message lists them.
    """
    STANDARD_TASKS.find(task)


def standard_prompt(task: str, num_images: int, text: str | None = None) -> str:
    """Returns the prompt of a standard task.

    Args:
      task: a key of `STANDARD_TASKS`; one of `CONTROL_TASKS`, whose sentence follows one that asks
        for fusion; `segment:CLASS`; or `segment` for all classes, each in its colour.
      num_images: number of source images.
      text: replaces the task's sentence, or is a whole prompt; `{class}` in it is replaced by the
        class.

    Raises:
      UserError: an unknown task, or placeholders in `text` that do not fit.
    """
    name, _, class_name = task.partition(":")
    if task in STANDARD_TASKS:
        pool = INSTRUCTION_POOLS.find(STANDARD_TASKS[task])
    elif task in CONTROL_TASKS:
        pool = INSTRUCTION_POOLS.find(CONTROL_TASKS[task])
    elif name == SEGMENT and class_name.strip():
        pool = INSTRUCTION_POOLS.find("segmentation")
    elif task == SEGMENT:
        pool = INSTRUCTION_POOLS.find("scene")
    else:
        segment = f"{SEGMENT}:CLASS, like {SEGMENT}:car"
        known = ", ".join((*STANDARD_TASKS, *CONTROL_TASKS, SEGMENT, segment))
        raise UserError(f"standard task {task!r} is unknown; choose from {known}")
    sentence = pool.sentences[0] if text is None else text
    if task in CONTROL_TASKS and sentence.strip() and not has_placeholders(sentence):
        sentence = join_instructions(INSTRUCTION_POOLS.find("fusion").sentences[0], sentence)
    if class_name:
        sentence = sentence.replace("{class}", class_name.strip())
    return as_prompt(sentence, num_images, pool.task, pool.tag)
