"""The repairs that a model is asked for where its sources are degraded."""

from ditfuse_jax.evaluate.runner.suites import Condition, Suite
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.prompts.requests import DEFECTS, Request
from ditfuse_jax.prompts.taught_requests import TaughtRequests

REPAIRED = "repaired"  # the method: the model, asked to repair the defect that the sources have


def degraded_source(condition: Condition, cameras: bool) -> int | None:
    """Returns the index of the source that has a condition's defect, or None for all sources.

    Args:
      condition: the defect, and which sources have it.
      cameras: whether the sources are of a visible and an infrared camera.
    """
    return {"visible": 0, "infrared": 1}.get(condition.sources) if cameras else None


def repair_requests(suite: Suite, cameras: bool, sampling: SamplingConfig) -> dict[str, Request]:
    """Returns the repair of each defect of a suite that a model can be asked to repair.

    Args:
      suite: with conditions.
      cameras: see `degraded_source`.
      sampling: says what the model was taught, and whether image operations do the rest.

    Returns:
      Defect -> the request to repair it in the sources that have it.  It is empty for a suite that
      compares with the sources: they stay as they are.
    """
    if suite.against == "sources":
        return {}
    taught, requests = TaughtRequests.parse(sampling.requests), {}
    for condition in suite.conditions:
        if condition.defect not in DEFECTS:
            continue
        index = degraded_source(condition, cameras)
        role = None if index is None else ("first", "second")[index]
        request = Request("repair", role=role, defect=condition.defect)
        if not taught.divide((request,), apply=sampling.apply_requests).left_out:
            requests[condition.defect] = request
    return requests
