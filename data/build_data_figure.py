"""Draws `docs/images/data.svg`: how an image becomes a batch, and what a training step gets.

    python data/build_data_figure.py

The arrays are those of the recipe `nano_m3`: its task, encoder and batch size run here on an image
of 480x640 pixels.  A test compares the file with what this script draws.
"""

import functools
import html
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax.model.space import PixelSpace
from ditfuse_jax.pipeline.batches import stack
from ditfuse_jax.tasks import make_task
from ditfuse_jax.train import load_recipe, resolve
from ditfuse_jax.train.step import model_inputs

FILE = Path(__file__).parents[1] / "docs" / "images" / "data.svg"
RECIPE = "nano_m3"

WIDTH, LEFT, LINE = 720, 150, 20
COLOURS = ("#f0b429", "#3a86c8", "#8a56ac", "#3fa66b", "#e76f51")


def stages() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Returns (title, where it is in the code, [(name, what it is)]) of all stages."""
    recipe = resolve(load_recipe(RECIPE, []))
    data = recipe.data
    (component,) = data.mixture
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    example = make_task(component.task)((image,), rng, data.crop)
    arrays = data.encoder(example, rng)
    batch = stack([arrays] * data.batch_size)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    images = (data.batch_size, len(example.sources) + 1, *data.crop, 3)
    noise = jax.ShapeDtypeStruct(images, np.float32)
    enter = functools.partial(model_inputs, space=PixelSpace(), autoencoder={})
    condition, target = jax.eval_shape(lambda b, n: enter(b, noise=n), shapes, noise)
    draws = (data.batch_size, recipe.step.draws)
    return [
        ("image", "pipeline/sources.py", [(component.source, _array(image))]),
        (
            f"task {component.task}",
            "tasks/",
            [
                ("sources", f"{len(example.sources)} x {_array(example.sources[0])}"),
                ("prompt", _short(example.prompt)),
                ("target", _array(example.target)),
            ],
        ),
        ("example", "pipeline/examples.py", [(k, _array(v)) for k, v in arrays.items()]),
        ("batch", "pipeline/batches.py", [(k, _array(v)) for k, v in batch.items()]),
        (
            "step",
            "train/step.py",
            [
                ("condition", f"images {_array(condition.images)}, and the tokens"),
                ("clean target", _array(target)),
                ("t", f"float32 {draws}, drawn in the step"),
                ("noise", f"float32 {(*draws, *data.crop, 3)}, drawn in the step"),
                ("loss", "flow matching; then gradients, optimiser, moving average"),
            ],
        ),
    ]


def draw() -> str:
    """Returns the figure as SVG."""
    parts: list[str] = []
    y = 12
    found = stages()
    for number, ((title, where, lines), colour) in enumerate(zip(found, COLOURS, strict=True)):
        height = LINE * len(lines) + 16
        parts += [
            f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - 12}" height="{height}" rx="6" '
            f'fill="{colour}" fill-opacity="0.18" stroke="{colour}"/>',
            _text(12, y + 21, title, bold=True),
            _text(12, y + 38, where),
        ]
        for row, (name, what) in enumerate(lines):
            middle = y + 8 + LINE * row + 14
            parts += [_text(LEFT + 12, middle, name, bold=True), _text(LEFT + 122, middle, what)]
        y += height
        if number < len(found) - 1:
            x = LEFT + 40
            parts.append(
                f'<path d="M{x} {y + 3}v14m-5 -5l5 5l5 -5" fill="none" stroke="#52525b" '
                'stroke-width="1.5"/>'
            )
            y += 20
    y += 12
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
        f'height="{y}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _array(x: object) -> str:
    return f"{x.dtype} {tuple(x.shape)}"  # pyright: ignore[reportAttributeAccessIssue]


def _short(text: str, most: int = 62) -> str:
    return text if len(text) <= most else text[: most - 3].rstrip() + "..."


def _text(x: int, y: int, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" fill="#27272a"{weight}>{html.escape(text)}</text>'


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
