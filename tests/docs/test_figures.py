"""Figures that are drawn from the code show the code as it is."""

import importlib.util

from docs.build_site import ROOT


def test_the_figure_of_the_sequence_is_that_of_the_layout():
    path = ROOT / "data" / "build_sequence_figure.py"
    spec = importlib.util.spec_from_file_location("build_sequence_figure", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = module.draw()
    assert module.FILE.read_text(encoding="utf-8") == drawn
    pairs = module.LAYOUT.full_mask.num_pairs()
    squares = sum(drawn.count(f'fill="{colour}"') for colour in module.COLOURS.values())
    assert squares == pairs + 2 * module.LAYOUT.length
