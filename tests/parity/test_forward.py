"""Parity of the transformer with OmniGen, rebuilt from transformers' and diffusers' modules.

Both get the same prompts: ours in fixed slots, the reference one sample at a time without padding.
The weights are random and have grouped-query attention.
"""

import dataclasses
import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from ditfuse_jax.model import Condition, ModelConfig
from ditfuse_jax.model.patches import position_table
from ditfuse_jax.prompts import (
    CONDITION_DROPPED,
    TextSlots,
    encode_prompt,
    has_placeholders,
    image_only_prompt,
    load_tokenizer,
    task_prompt,
)
from ditfuse_jax.weights import open_omnigen
from ditfuse_jax.weights.omnigen import parameters_from_original

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("reference", "exact_products")]

# Both compute in float32 with different orders of summation.
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4

SLOTS = TextSlots(first=40, middle=16, last=60)
NEVER, ALWAYS = 4096, 16  # positions from which the long factors apply

ONE, TWO, THREE = (f"<img><|image_{k}|></img>" for k in (1, 2, 3))


class Case(NamedTuple):
    """A batch: one prompt per row, all with the same number of images of one grid."""

    num_images: int
    grid: tuple[int, int]
    prompts: tuple[str, ...]


def prompts(num_images: int) -> tuple[str, ...]:
    """Prompts of unequal length."""
    return (
        task_prompt("FUSION", None, "Merge.", num_images),
        task_prompt("FUSION", "MULTI-FOCUS", "Keep what is sharp, brighten the rest.", num_images),
        task_prompt("SEG", None, "天", num_images),
    )


CASES = {
    "one image": Case(1, (3, 7), prompts(1)),
    "two images": Case(2, (8, 4), prompts(2)),
    "three images": Case(3, (2, 5), prompts(3)),
    "images in other places": Case(
        3, (3, 2), (f"{THREE} over {ONE}, {TWO}", f"{ONE}{TWO}{THREE}", f"{TWO} {THREE} {ONE}!")
    ),
    # Not all slots are used, as in the branches of guidance.
    "an image shown twice": Case(
        2,
        (4, 3),
        (f"Take {TWO}, add {ONE}, compare with {TWO}.", image_only_prompt(2), CONDITION_DROPPED),
    ),
    "no image": Case(2, (3, 4), ("blurry, jpeg artifacts", CONDITION_DROPPED, "")),
}


@pytest.fixture(scope="module")
def folder(omnigen_folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("download") / "OmniGen"
    omnigen_folder.write(made, hidden=64, layers=2, heads=4, kv_heads=2, mlp=96)
    return made


@pytest.fixture(scope="module")
def tensors(folder) -> dict[str, np.ndarray]:
    """The folder's weights, with larger weights in the layers.

    Small ones make attention nearly uniform, so positions and masks would have no effect.
    """
    read = load_file(folder / "model.safetensors")
    return {
        name: tensor * 3 if "_proj." in name and name.startswith("llm.") else tensor
        for name, tensor in read.items()
    }


class Both(NamedTuple):
    """Inputs of a case for our model and the reference; arrays start with the batch."""

    config: ModelConfig
    parameters: Any
    condition: Condition
    noisy: np.ndarray  # (B, H, W, C)
    target: np.ndarray
    t: np.ndarray
    theirs: Any
    samples: list[tuple]
    lengths: np.ndarray  # (B,) real tokens of the whole sequence


@pytest.fixture(scope="module")
def prepare(reference, original, folder, tensors):
    """Returns a function that prepares a case whose long factors apply from `limit` on."""
    torch = pytest.importorskip("torch")
    raw = json.loads((folder / "config.json").read_text())
    opened = open_omnigen(folder, text_slots=dataclasses.astuple(SLOTS)).config
    parameters = jax.tree.map(jnp.asarray, parameters_from_original(tensors, opened))
    tokenizer, bare = load_tokenizer(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))

    @functools.cache
    def sides(limit: int) -> tuple[ModelConfig, Any]:
        longest = 32 * limit  # as in OmniGen-v1; determines the scale of cosines and sines
        changed = raw | {
            "original_max_position_embeddings": limit,
            "max_position_embeddings": longest,
        }
        config = dataclasses.replace(opened, original_max_position=limit, max_position=longest)
        return config, reference.Reference(changed, tensors)

    def prepare(case: Case, limit: int) -> Both:
        random = np.random.default_rng(0)
        rows, columns = case.grid
        batch, latent = len(case.prompts), (2 * rows, 2 * columns, 4)
        images = random.standard_normal((batch, case.num_images, *latent)).astype("f4")
        noisy, target = random.standard_normal((2, batch, *latent)).astype("f4")
        t = random.uniform(0, 1, batch).astype("f4")

        encoded = [encode_prompt(tokenizer, p, case.num_images, SLOTS) for p in case.prompts]
        slots = max(len(e.order) for e in encoded)
        encoded = [encode_prompt(tokenizer, p, case.num_images, SLOTS, slots) for p in case.prompts]
        condition = Condition(
            jnp.asarray([e.tokens for e in encoded]),
            jnp.asarray([e.valid for e in encoded]),
            jnp.asarray([row[list(e.order)] for row, e in zip(images, encoded, strict=True)]),
            jnp.asarray([e.image_valid for e in encoded]),
        )

        samples, lengths = [], []
        for prompt, row, x, time in zip(case.prompts, images, noisy, t, strict=True):
            shown = case.num_images if has_placeholders(prompt) else 0
            ids, spans, order = original.process(bare, prompt, shown, rows * columns)
            latents = [torch.tensor(row[k]).permute(2, 0, 1) for k in order]
            samples.append((ids, spans, latents, torch.tensor(x).permute(2, 0, 1), float(time)))
            lengths.append(len(ids) + 1 + rows * columns)

        config, theirs = sides(limit)
        return Both(
            config, parameters, condition, noisy, target, t, theirs, samples, np.array(lengths)
        )

    return prepare


def full(model, both: Both, longest):
    return model(both.condition, both.noisy[:, None], both.t[:, None], longest)[:, 0]


def cached(model, both: Both, longest):
    return model.denoise(
        model.encode(both.condition, longest), both.condition, both.noisy, jnp.asarray(both.t)
    )


def ours(models, both: Both, path, longest=None) -> np.ndarray:
    graph, _ = models.graph(both.config)
    run = models.jit(lambda parameters: path(nnx.merge(graph, parameters), both, longest))
    return np.asarray(run(both.parameters))


def theirs(both: Both, longest: int | None = None) -> np.ndarray:
    """Returns (B, H, W, C); by default every sample is a separate forward pass."""
    out = [both.theirs(*sample, longest=longest) for sample in both.samples]
    return np.stack([x.detach().permute(1, 2, 0).numpy() for x in out])


def relative_error(actual, expected) -> float:
    """Returns the largest error over the batch, relative to the largest value of the row."""
    axes = tuple(range(1, expected.ndim))
    return float((np.abs(actual - expected).max(axes) / np.abs(expected).max(axes)).max())


@pytest.mark.parametrize("path", [full, cached])
@pytest.mark.parametrize("name", CASES)
def test_the_velocity_equals_omnigen_s(models, prepare, name, path):
    both = prepare(CASES[name], NEVER)
    assert relative_error(ours(models, both, path), theirs(both)) < TOLERANCE


@pytest.mark.parametrize("path", [full, cached])
@pytest.mark.parametrize("name", ["one image", "an image shown twice"])
def test_the_velocity_with_long_factors_equals_omnigen_s(models, prepare, name, path):
    both = prepare(CASES[name], ALWAYS)
    assert relative_error(ours(models, both, path), theirs(both)) < TOLERANCE


@pytest.mark.parametrize("path", [full, cached])
def test_a_batch_selects_the_factors_by_its_longest_sample(models, prepare, path):
    lengths = np.sort(prepare(CASES["two images"], NEVER).lengths)
    both = prepare(CASES["two images"], int(lengths[-1]) - 1)
    expected = theirs(both, longest=int(lengths[-1]) - 1)
    assert relative_error(ours(models, both, path), expected) < TOLERANCE
    assert (
        relative_error(theirs(both), expected) > 0.01
    )  # shorter samples alone select other factors


@pytest.mark.parametrize("path", [full, cached])
def test_rows_with_their_own_longest_position_select_the_factors_separately(models, prepare, path):
    lengths = np.sort(prepare(CASES["two images"], NEVER).lengths)
    assert lengths[0] < lengths[-1]
    # The short factors apply up to and including the limit.
    both = prepare(CASES["two images"], int(lengths[-2]))
    longest = jnp.asarray(both.lengths - 1)
    assert relative_error(ours(models, both, path, longest), theirs(both)) < TOLERANCE


@pytest.mark.parametrize(("name", "limit"), [("two images", NEVER), ("one image", ALWAYS)])
def test_the_gradients_of_all_weights_equal_omnigen_s(models, prepare, name, limit):
    torch = pytest.importorskip("torch")
    both = prepare(CASES[name], limit)
    graph, _ = models.graph(both.config)

    def loss(parameters):
        return jnp.mean((full(nnx.merge(graph, parameters), both, None) - both.target) ** 2)

    gradients = nnx.to_pure_dict(nnx.State(models.jit(jax.grad(loss))(both.parameters)))

    longest = int(both.lengths.max()) - 1
    both.theirs.zero_grad()
    velocity = torch.stack([both.theirs(*sample, longest=longest) for sample in both.samples])
    torch.mean((velocity - torch.tensor(both.target).permute(0, 3, 1, 2)) ** 2).backward()
    expected = parameters_from_original(both.theirs.gradients(), both.config)

    errors = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max() / np.abs(b).max()), gradients, expected
    )
    assert len(jax.tree.leaves(errors)) == len(jax.tree.leaves(both.parameters))
    assert max(jax.tree.leaves(errors)) < GRADIENT_TOLERANCE, errors


@pytest.mark.parametrize("grid", [(3, 7), (8, 4), (64, 40), (191, 192)])
def test_the_position_table_equals_the_centre_of_diffusers_table(prepare, grid):
    both = prepare(CASES["one image"], NEVER)
    expected = both.theirs.x_embedder.cropped_pos_embed(2 * grid[0], 2 * grid[1])[0].numpy()
    np.testing.assert_allclose(position_table(both.config, grid), expected, atol=1e-5)


def test_diffusers_reads_the_autoencoder_of_the_test_folder(folder):
    diffusers = pytest.importorskip("diffusers")
    _, problems = diffusers.AutoencoderKL.from_pretrained(
        folder / "vae", output_loading_info=True, local_files_only=True
    )
    assert not any(problems.values()), problems
