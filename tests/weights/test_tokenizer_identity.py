"""A model only runs with the tokenizer it was trained with; appended tokens change nothing."""

import importlib.util
import json
import shutil

import numpy as np
import pytest

from ditfuse_jax.convert import convert
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.prompts import (
    SPECIAL_TOKENS,
    SUBTASKS,
    load_tokenizer,
    register_tag,
    special_tokens,
    task_prompt,
)
from ditfuse_jax.prompts.fingerprint import check_tokenizer, tokenizer_fingerprint
from ditfuse_jax.resources import resource
from ditfuse_jax.sample import FusionInput, StackFuser, WeightedAdapter, load_trained
from ditfuse_jax.train import load_recipe, resolve
from ditfuse_jax.train.initial import check_inputs, load_initial
from ditfuse_jax.weights import Adapter, open_adapter, open_checkpoint, write_adapter

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def build_tokenizer():
    spec = importlib.util.spec_from_file_location(
        "build_tokenizer", resource("data", "build_tokenizer.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tag():
    """A tag that a user registers."""
    register_tag("FUSION", "HAZE")
    yield "HAZE"
    SUBTASKS["FUSION"].remove("HAZE")


@pytest.fixture
def appended(build_tokenizer, tag, tmp_path):
    """The tokenizer that is built after the tag was added."""
    del tag
    build_tokenizer.write(build_tokenizer.build(), tmp_path / "appended")
    return tmp_path / "appended"


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """The shipped tokenizer with the ids of two tags swapped."""
    folder = tmp_path_factory.mktemp("tokenizers") / "shifted"
    shutil.copytree(resource("prompts", "assets"), folder)
    path = folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    swapped = text.replace("<LIGHT++>", "?").replace("<LIGHT-->", "<LIGHT++>")
    path.write_text(swapped.replace("?", "<LIGHT-->"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The bundled model as a run folder."""
    return convert("small", tmp_path_factory.mktemp("runs") / "small", to="run", quiet=True)


@pytest.fixture
def ship(monkeypatch):
    """Replaces the shipped tokenizer by the one in a folder."""

    def replace(folder):
        monkeypatch.setattr("ditfuse_jax.prompts.tokenizer.resource", lambda *_: folder)

    return replace


def fused(prompt):
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(2)]
    (image,) = StackFuser(load_trained("small"), SamplingConfig(steps=1)).fuse(
        [FusionInput(sources, prompt)]
    )
    return image


def _bundled_fingerprint() -> str:
    recipe = resource("data", "small", "recipe.json").read_text(encoding="utf-8")
    return json.loads(recipe)["tokenizer_fingerprint"]


def test_the_ids_of_the_shipped_tokens_never_change():
    """Literal ids: the bundled model was trained with them."""
    tokenizer = load_tokenizer()
    tokens = ["<pad>", "<s>", "<|user|>", "<|image_1|>", "<cfg>", "[FUSION]", "[SEG]"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [0, 1, 4, 10, 14, 15, 17]
    tags = ["<MULTI-MODALITIES>", "<LIGHT++>", "<LIGHT-->", "<CONTRAST->"]
    assert tokenizer.convert_tokens_to_ids(tags) == [18, 21, 24, 26]
    assert tokenizer_fingerprint().startswith("1208:32b600ba")
    # That of the bundled model's training: the tokens since then are appended.
    check_tokenizer(None, _bundled_fingerprint(), 2048, "small")


def test_a_registered_tag_changes_no_id_and_no_output_of_the_bundled_model(appended, ship, tag):
    before, ids = load_tokenizer(), fused(task_prompt("CONTROL", "LIGHT++", "Brighter."))
    after = load_tokenizer(appended)
    assert after.get_vocab().items() > before.get_vocab().items()
    assert after.convert_tokens_to_ids(f"<{tag}>") == len(before)
    ship(appended)
    np.testing.assert_array_equal(fused(task_prompt("CONTROL", "LIGHT++", "Brighter.")), ids)
    assert fused(task_prompt("FUSION", tag, "See through the haze.")).shape == (48, 64, 3)


def test_a_registered_tag_needs_no_new_tokenizer(tag):
    assert fused(task_prompt("FUSION", tag, "See through the haze.")).shape == (48, 64, 3)
    assert f"<{tag}>" in special_tokens() and f"<{tag}>" not in SPECIAL_TOKENS


def test_tags_beyond_the_embedding_are_refused(build_tokenizer):
    tokens = [f"<{number}>" for number in range(2048 - 1208 + 1)]
    with pytest.raises(UserError, match=r"make 2049 tokens, but .* 2048 rows"):
        build_tokenizer.append_tokens(build_tokenizer.shipped(), tokens)
    build_tokenizer.append_tokens(build_tokenizer.shipped(), tokens[:-1])


@pytest.mark.parametrize("tags", [("fusion", None), ("FUSION", "haze"), ("FUSION", "A>B")])
def test_a_tag_of_other_characters_is_refused(tags):
    with pytest.raises(UserError, match="must consist of"):
        register_tag(*tags)


REFUSED = "was trained with another tokenizer than the one in .*: its 1187 tokens, or how text"


def test_the_bundled_model_refuses_a_shifted_tokenizer(shifted, ship):
    ship(shifted)
    with pytest.raises(UserError, match=f"small {REFUSED}"):
        load_trained("small")


@pytest.mark.medium
@pytest.mark.slow
def test_a_run_refuses_a_shifted_tokenizer(run, shifted, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(shifted, tmp_path / "run" / "tokenizer")
    with pytest.raises(UserError, match=f"run, step 0 {REFUSED}"):
        load_trained(tmp_path / "run")


def test_a_training_from_weights_refuses_a_shifted_tokenizer(shifted):
    words = [f"--config.weights={resource('data', 'small')}", f"--config.data.tokenizer={shifted}"]
    config = load_recipe("small_cpu", words)
    with config.unlocked():
        config.model = open_checkpoint("small").model.to_dict()
    with pytest.raises(UserError, match=f"the model in .*small {REFUSED}"):
        check_inputs(resolve(config), [])


@pytest.mark.slow
def test_a_converted_folder_refuses_a_shifted_tokenizer(omnigen_folder, shifted, tmp_path):
    omnigen_folder.write(tmp_path / "original")
    convert(tmp_path / "original", tmp_path / "run", quiet=True)
    convert(tmp_path / "run", tmp_path / "back", quiet=True)
    for folder, tokenizer in (("run", tmp_path / "run/tokenizer"), ("back", tmp_path / "back")):
        checkpoint = open_checkpoint(tmp_path / folder)
        assert checkpoint.tokenizer == tokenizer
        known = (checkpoint.tokenizer_fingerprint, checkpoint.model.vocab_size, "it")
        check_tokenizer(tokenizer, *known)
        other = tmp_path / f"other-{folder}"
        shutil.copytree(tokenizer, other)
        vocabulary = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
        _swap_two_ids(vocabulary["model"]["vocab"])
        (other / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        with pytest.raises(UserError, match="it was trained with another tokenizer"):
            check_tokenizer(other, *known)
    assert checkpoint.tokenizer_fingerprint != tokenizer_fingerprint(shifted)


def test_an_adapter_of_another_tokenizer_is_refused_where_it_is_merged(omnigen_folder, tmp_path):
    """As a PEFT folder and as a run, which both keep the fingerprint."""
    weights = tmp_path / "weights"
    omnigen_folder.write(weights)
    model, lora = open_checkpoint(weights).model, LoRAConfig(1, 1.0, ("qkv_proj",))
    _, state = make_graph(Network(model, lora))
    shapes = state["transformer"]["layers"]["self_attn"]["qkv_proj"]
    factors = {name: np.zeros(shapes[name].shape, "f4") for name in ("lora_a", "lora_b")}
    leaves = {"transformer": {"layers": {"self_attn": {"qkv_proj": factors}}}}
    (tmp_path / "peft").mkdir()
    known = tokenizer_fingerprint(weights)
    write_adapter(tmp_path / "peft", Adapter(lora, leaves, known), model)
    run = convert(tmp_path / "peft", tmp_path / "run", base=weights, quiet=True)
    assert open_adapter(run, model).tokenizer_fingerprint == known
    recipe = load_recipe(f"omnigen_lora:{weights}", ["--config.lora.rank=1"])
    path = weights / "tokenizer.json"
    vocabulary = json.loads(path.read_text(encoding="utf-8"))
    _swap_two_ids(vocabulary["model"]["vocab"])
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    (other / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    recipe.data.tokenizer = str(other)
    for folder in (tmp_path / "peft", run):
        message = f"the adapter {folder} was trained with another tokenizer"
        adapters = [WeightedAdapter(folder)]
        with pytest.raises(UserError, match=message):
            load_trained(other, adapters)
        with pytest.raises(UserError, match=message):
            convert(other, tmp_path / "merged", adapters=adapters, quiet=True)
        recipe.lora.adapter = str(folder)
        with pytest.raises(UserError, match=message):
            load_initial(resolve(recipe), {})
    with pytest.raises(UserError, match="was trained with another tokenizer"):
        open_checkpoint(tmp_path / "peft", base=other)


def _swap_two_ids(vocabulary):
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def test_a_fingerprint_does_not_depend_on_the_file_s_formatting(tmp_path):
    shutil.copytree(resource("prompts", "assets"), tmp_path / "same")
    path = tmp_path / "same" / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert tokenizer_fingerprint(tmp_path / "same") == tokenizer_fingerprint()


def test_conversions_copy_the_licence_of_the_weights(run, tmp_path):
    """Into a run folder, and from there into a bundle."""
    terms = resource("data", "small", "LICENSE").read_bytes()
    assert (run / "LICENSE").read_bytes() == terms
    convert(run, tmp_path / "bundle", to="bundle", quiet=True)
    assert (tmp_path / "bundle" / "LICENSE").read_bytes() == terms
    recipe = json.loads((tmp_path / "bundle" / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["tokenizer_fingerprint"] == _bundled_fingerprint()
