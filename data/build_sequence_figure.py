"""Draws `docs/images/sequence.svg`: the slots of a sequence and its attention mask.

    python data/build_sequence_figure.py

Slots and mask are those of `model/layout.py`, for a prompt with two images of 2x2 patches and two
noise draws.  A test compares the file with what this script draws.
"""

from collections.abc import Iterator
from pathlib import Path

from ditfuse_jax.model.layout import Layout

LAYOUT = Layout(text=(4, 2, 5), grid=(2, 2), draws=2)
FILE = Path(__file__).parents[1] / "docs" / "images" / "sequence.svg"

CELL, LEFT, TOP = 14, 110, 118
COLOURS = {"text": "#f0b429", "image": "#3a86c8", "time": "#8a56ac", "target": "#3fa66b"}


def slots(layout: Layout) -> Iterator[tuple[str, str, int, int]]:
    """Yields (title, kind, start, stop) of all runs of tokens."""
    for slot in layout.slots:
        title = "text" if slot.kind == "text" else f"image {slot.index + 1}"
        yield title, slot.kind, slot.start, slot.stop
    for draw in range(layout.draws):
        start = layout.condition_length + draw * layout.draw_length
        yield f"time {draw + 1}", "time", start, start + 1
        yield f"target {draw + 1}", "target", start + 1, start + layout.draw_length


def draw(layout: Layout = LAYOUT) -> str:
    """Returns the figure as SVG."""
    mask = layout.full_mask.dense()
    runs = list(slots(layout))
    kinds = [kind for _, kind, start, stop in runs for _ in range(start, stop)]
    side = CELL * layout.length
    width, height = LEFT + side + 20, TOP + side + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<g fill="#27272a">',
        f'<text x="{LEFT}" y="20">keys: attended to</text>',
        f'<text x="12" y="{TOP - 8}">queries</text>',
    ]
    for title, _, start, stop in runs:
        middle = CELL * (start + stop) / 2
        parts.append(
            f'<text transform="translate({LEFT + middle + 4:g} {TOP - 22}) rotate(-60)">{title}'
            "</text>"
        )
        y = TOP + middle + 4
        parts.append(f'<text x="{LEFT - 24}" y="{y:g}" text-anchor="end">{title}</text>')
    parts.append("</g>")
    for row, kind in enumerate(kinds):
        place = LEFT + CELL * row, TOP + CELL * row
        box = f'width="{CELL - 1}" height="{CELL - 1}" fill="{COLOURS[kind]}"'
        parts.append(f'<rect x="{place[0]}" y="{TOP - 18}" {box}/>')
        parts.append(f'<rect x="{LEFT - 18}" y="{place[1]}" {box}/>')
        for column, attends in enumerate(mask[row]):
            fill = COLOURS[kinds[column]] if attends else "#eeeeef"
            parts.append(
                f'<rect x="{LEFT + CELL * column}" y="{place[1]}" width="{CELL - 1}" '
                f'height="{CELL - 1}" fill="{fill}"/>'
            )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
