"""Compiles a tiny training step and sampler for eight devices, twice; prints a JSON object."""

import json
import sys
from pathlib import Path

import jax

from ditfuse_jax.aot.compile import CompileConfig, compile_on
from ditfuse_jax.parallel.accelerators import TPUS

SIZES = {
    **{"hidden_size": 64, "num_layers": 2, "num_heads": 8, "num_kv_heads": 8},
    **{"intermediate_size": 128, "attention": "reference", "remat": "full"},
}
OVERRIDES = tuple(f"--config.model.{name}={value}" for name, value in SIZES.items())


def main(folder: Path):
    report = {}
    for program, more in (("train", ()), ("sample", ("--config.sample.steps=3",))):
        config = CompileConfig(
            "nano", program, image_size=128, batch_size=8, overrides=OVERRIDES + more
        )
        for run in ("first", "second"):
            (result,) = compile_on(config, jax.devices(), TPUS["v6e"], "eight", folder=folder)
            report[f"{program} {run}"] = result.to_dict() | {"lines": result.lines()}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
