"""The head `bands` on a whole frame, from the values of its cells: for sampling on a CPU.

It computes what `BandsHead` computes of one set of cells, and nothing of the transformer.  Every
feature is a plane of its own, and the weighting network runs over short strips of pixels, whose
hidden units stay in the processor's cache: half of the work of the other layout.
"""

import jax
import jax.numpy as jnp

from ditfuse_jax.model.heads.bands import (
    EPSILON,
    GENERATED_LOGIT_OFFSET,
    NUM_GATES,
    PARTS,
    ROWS_AND_COLUMNS,
    BandsHead,
    softmax_of,
)
from ditfuse_jax.model.wavelets import LEVELS, activity, decompose, smooth, to_luma_chroma, to_rgb

_STRIP = 1024  # pixels; sides of images are multiples of 32


def compose(head: BandsHead, cells: jax.Array, sources: jax.Array) -> jax.Array:
    """Predicts the image of one scene.

    Args:
      head: its network is used, its final layer is not.
      cells: (h, w, C) as `DiTFuse.decide` returns them, for a part of a scene or all of it.
      sources: (n, H, W, 3), all present.

    Returns:
      (H, W, 3) float32.
    """
    height, width = sources.shape[1:3]
    out = jnp.moveaxis(smooth(cells, 1, ROWS_AND_COLUMNS), -1, 0)
    out = _enlarge(_enlarge(out, height // out.shape[1], 1), width // out.shape[2], 2)
    luma, chroma = to_luma_chroma(sources)
    *details, low = decompose(luma)
    strengths = activity(details)
    planes = [out, luma, low, *jnp.moveaxis(chroma, -1, 0), *details, *strengths]
    strip = _STRIP if height * width % _STRIP == 0 else width

    def cut(x: jax.Array) -> jax.Array:
        """(..., H, W) -> (S, ..., N)."""
        return jnp.moveaxis(x.reshape(*x.shape[:-2], -1, strip), -2, 0)

    # The planes are computed once, not again for every use of a neighbour.
    planes = jax.lax.optimization_barrier([cut(plane) for plane in planes])

    def one(parts: list[jax.Array]) -> jax.Array:
        out, luma, low, red, blue, *rest = parts
        return _fuse(head, out, luma, low, (red, blue), rest[:LEVELS], rest[LEVELS:])

    return jax.lax.map(one, planes).reshape(height, width, 3)


def _enlarge(x: jax.Array, factor: int, axis: int) -> jax.Array:
    """`jax.image.resize(..., "linear")` along an axis of (C, h, w), by a whole factor.

    That is a product with a matrix, here a sum of two neighbours for each of `factor` places.
    """
    margins = [(0, 0)] * 3
    margins[axis] = (1, 1)
    wide, size = jnp.pad(x, margins, mode="edge"), x.shape[axis]
    before, here, after = (
        jax.lax.slice_in_dim(wide, start, start + size, axis=axis) for start in range(3)
    )
    places = []
    for place in range(factor):
        distance = (place + 0.5) / factor - 0.5  # from the centre of the cell
        neighbour = before if distance < 0 else after
        places.append((1 - abs(distance)) * here + abs(distance) * neighbour)
    shape = (*x.shape[:axis], factor * size, *x.shape[axis + 1 :])
    return jnp.stack(places, axis=axis + 1).reshape(shape)


def _fuse(
    head: BandsHead,
    out: jax.Array,
    luma: jax.Array,
    low: jax.Array,
    chroma: tuple[jax.Array, jax.Array],
    details: list[jax.Array],
    strengths: list[jax.Array],
) -> jax.Array:
    """Fuses N pixels: (C, N) of the cells and (n, N) of everything else to (N, 3)."""
    count = len(luma)
    saturation = jnp.sqrt(jnp.square(chroma[0]) + jnp.square(chroma[1]) + 1e-6)

    def relative_to_others(strength: jax.Array) -> jax.Array:
        return strength / (jnp.sum(strength, axis=0) + EPSILON) - 1 / count

    features = [
        *(2 * relative_to_others(strength) for strength in strengths),
        *(jnp.log(strength + EPSILON) / 2 + 1.5 for strength in strengths),
        luma,
        low,
        low - jnp.sum(low, axis=0) / count,
        2 * relative_to_others(saturation),
        saturation,
    ]
    gates, generated = out[:NUM_GATES], out[NUM_GATES:-1]
    of_tokens = head.of_tokens.kernel[...].T @ gates
    weights = []
    for k in range(count):
        x = _linear(head.of_source, jnp.stack([feature[k] for feature in features]))
        x = _linear(head.hidden, jax.nn.silu(x + of_tokens))
        weights.append(_linear(head.weigh, jax.nn.silu(x)))
    logits = [x[:PARTS] for x in weights]
    gains = [2 * jax.nn.sigmoid(x[PARTS : 2 * PARTS]) for x in weights]
    detail_weights = softmax_of([x[:LEVELS] for x in logits])
    generated_logit = out[-1:] + GENERATED_LOGIT_OFFSET
    *rest_weights, generated_weight = softmax_of(
        [*(x[LEVELS:] for x in logits), jnp.concatenate([generated_logit] * 2)]
    )
    generated_luma, generated_chroma = to_luma_chroma(generated.T)
    fused = generated_weight[0] * generated_luma
    fused_chroma = generated_weight[1] * generated_chroma.T
    for k in range(count):
        gain, rest = gains[k], rest_weights[k]
        fused += rest[0] * (gain[LEVELS] * low[k] + weights[k][-1])
        for level in range(LEVELS):
            fused += detail_weights[k][level] * gain[level] * details[level][k]
        fused_chroma += rest[1] * gain[-1] * jnp.stack([plane[k] for plane in chroma])
    return to_rgb(fused, fused_chroma.T)


def _linear(layer, x: jax.Array) -> jax.Array:
    """Applies a layer to (inputs, N)."""
    x = layer.kernel[...].T @ x
    return x if layer.bias is None else x + layer.bias[...][:, None]
