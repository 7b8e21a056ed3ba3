"""Which of eight devices hold equal parts of the arrays in the figure of the mesh; prints JSON."""

import importlib.util
import json
import sys
from pathlib import Path

from ditfuse_jax.parallel import MeshConfig, Partitioner, make_mesh


def main() -> None:
    path = Path(__file__).parents[2] / "data" / "build_mesh_figure.py"
    spec = importlib.util.spec_from_file_location("build_mesh_figure", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    numbers = {device: k for k, device in enumerate(mesh.devices.flat)}
    found = {}
    for title, axes in module.arrays().items():
        shape = (8,) * len(axes)
        sharding = Partitioner(mesh).activation(axes, shape)
        holders: dict[str, list[int]] = {}
        for device, index in sharding.devices_indices_map(shape).items():
            holders.setdefault(str(index), []).append(numbers[device])
        found[title] = sorted(map(sorted, holders.values()))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
