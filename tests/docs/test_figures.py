"""Figures that are drawn from the code show the code as it is."""

import importlib.util
import math

import pytest

from docs.build_site import ROOT


def load(name):
    """The script that draws a figure."""
    path = ROOT / "data" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_of_the_sequence_is_that_of_the_layout():
    module = load("build_sequence_figure")
    drawn = module.draw()
    assert module.FILE.read_text(encoding="utf-8") == drawn
    pairs = module.LAYOUT.full_mask.num_pairs()
    squares = sum(drawn.count(f'fill="{colour}"') for colour in module.COLOURS.values())
    assert squares == pairs + 2 * module.LAYOUT.length


@pytest.mark.medium
def test_the_figure_of_the_data_is_that_of_a_recipe():
    module = load("build_data_figure")
    assert module.FILE.read_text(encoding="utf-8") == module.draw(), f"run {module.__name__}"
    stages = {title: dict(lines) for title, _, lines in module.stages()}
    assert stages["example"].keys() == stages["batch"].keys()


class TestMesh:
    """The figure of the mesh."""

    @pytest.fixture(scope="class")
    def module(self):
        return load("build_mesh_figure")

    def test_it_is_that_of_the_rules(self, module):
        assert module.FILE.read_text(encoding="utf-8") == module.draw()

    def test_every_device_holds_one_part_of_every_array(self, module):
        for title, axes in module.arrays().items():
            held = [device for part in module.holders(axes).values() for device in part]
            assert sorted(held) == list(range(math.prod(module.SIZES))), title

    @pytest.mark.slow
    @pytest.mark.processes
    def test_parts_lie_where_jax_puts_them(self, module, on_eight_devices):
        """On eight devices, with a context axis of one, since eight is what is emulated."""
        module.SIZES = (2, 2, 1, 2)
        found = on_eight_devices("docs/mesh_parts.py")
        for title, axes in module.arrays().items():
            expected = sorted(devices for devices in module.holders(axes).values())
            assert found[title] == expected, title
        module.SIZES = (2, 2, 2, 2)
