"""Compiles a tiny training and its sampler for eight devices, twice; prints one JSON object."""

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
    for what, more in (("train", ()), ("sample", ("--config.sample.steps=3",))):
        case = CompileConfig("nano", what, image_size=128, batch_size=8, overrides=OVERRIDES + more)
        for run in ("first", "second"):
            (done,) = compile_on(case, jax.devices(), TPUS["v6e"], "eight", folder=folder)
            report[f"{what} {run}"] = done.to_dict() | {"lines": done.lines()}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
