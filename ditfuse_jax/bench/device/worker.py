"""The process that measures: reads names of measurements and answers each with a line of JSON.

A process of its own, so that a kernel that crashes or hangs ends one measurement only.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

from ditfuse_jax.bench.device.outcome import CheckFailed, NotApplicable
from ditfuse_jax.bench.device.plan import FULL, SMALL, make_plan
from ditfuse_jax.bench.device.results import FAILED, OK, SKIPPED


def main(argv: list[str] | None = None) -> None:
    """Measures what the standard input names, until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("jax", "torch"), required=True)
    parser.add_argument(
        "--answers", type=int, required=True, help="file descriptor for the answers"
    )
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args(argv)
    scale = SMALL if args.small else FULL
    tasks = {task.name: task for task in make_plan(scale)}
    with os.fdopen(args.answers, "w", encoding="utf-8") as answers:

        def answer(values: dict[str, Any]) -> None:
            print(json.dumps(values), file=answers, flush=True)

        answer({"facts": _facts(args.kind)})
        for line in sys.stdin:
            name = line.rstrip("\n")
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            answer(_measure(tasks[name], scale))


def _measure(task: Any, scale: Any) -> dict[str, Any]:
    """Runs a measurement; whatever happens in it becomes its result."""
    try:
        return {"status": OK, "values": task.run(scale)}
    except NotApplicable as error:
        return {"status": SKIPPED, "note": str(error)}
    except CheckFailed as error:
        return {"status": FAILED, "note": str(error), "values": error.values}
    except Exception as error:  # recorded; the others go on
        reason = str(error).strip().partition("\n")[0]
        return {"status": FAILED, "note": f"{type(error).__name__}: {reason}"[:500]}


def _facts(kind: str) -> dict[str, Any]:
    """Describes the devices and versions of this process."""
    if kind == "torch":
        return {}
    import jax

    from ditfuse_jax.parallel.device_memory import memory_limit
    from ditfuse_jax.train.run_folder import package_versions

    device = jax.devices()[0]
    limit = memory_limit([device])
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices (the first is used)": jax.device_count(),
        "memory GiB": limit / 2.0**30 if limit else "no limit",
        "versions": package_versions(),
    }


if __name__ == "__main__":
    main()
