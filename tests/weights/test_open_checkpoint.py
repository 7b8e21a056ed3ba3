"""One handle for stored models of every layout."""

import json
import shutil

import jax
import numpy as np
import pytest

from ditfuse_jax import extensions
from ditfuse_jax.convert import convert
from ditfuse_jax.convert.layouts import LAYOUTS
from ditfuse_jax.convert.output import new_folder
from ditfuse_jax.errors import UserError
from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.sample import WeightedAdapter, load_trained
from ditfuse_jax.weights import Adapter, open_checkpoint, write_adapter
from ditfuse_jax.weights.open import STORED_LAYOUTS, StoredLayout

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def original(omnigen_folder, tmp_path_factory):
    """A small random model in OmniGen's layout."""
    folder = tmp_path_factory.mktemp("download") / "OmniGen"
    omnigen_folder.write(folder, hidden=64, layers=2, heads=4, kv_heads=2, mlp=96)
    return folder


@pytest.fixture(scope="module")
def run(original, tmp_path_factory):
    """The same as a run folder."""
    return convert(original, tmp_path_factory.mktemp("run") / "converted", quiet=True)


@pytest.fixture(scope="module")
def adapter(original, tmp_path_factory):
    """A random PEFT adapter for it."""
    folder = tmp_path_factory.mktemp("peft") / "adapter"
    folder.mkdir()
    model, lora = open_checkpoint(original).model, LoRAConfig(2, 4.0, ("qkv_proj",))
    _, state = make_graph(Network(model, lora))
    rng = np.random.default_rng(0)
    leaves = {
        name: (
            0.1
            * rng.standard_normal(
                state["transformer"]["layers"]["self_attn"]["qkv_proj"][name].shape
            )
        ).astype(np.float32)
        for name in ("lora_a", "lora_b")
    }
    nested = {"transformer": {"layers": {"self_attn": {"qkv_proj": leaves}}}}
    write_adapter(folder, Adapter(lora, nested), model)
    return folder


def test_the_same_weights_in_two_layouts_have_the_same_parameters(original, run):
    first, second = open_checkpoint(original), open_checkpoint(run)
    assert (first.kind, second.kind) == ("omnigen", "run")
    assert first.model == second.model and first.sampling == second.sampling == SamplingConfig()
    assert first.config is None and second.config is not None and second.step == 0
    assert first.shapes().keys() == second.shapes().keys()
    for path in first.shapes():
        np.testing.assert_array_equal(first.read_leaf(path), second.read_leaf(path))
    stack = ("transformer", "layers", "mlp", "down_proj", "kernel")
    for checkpoint in (first, second):
        rows = checkpoint.read_leaf(stack, slice(1, 2))
        np.testing.assert_array_equal(rows, checkpoint.read_leaf(stack)[1:])


def test_a_run_carries_its_autoencoder_and_tokenizer(run):
    checkpoint = open_checkpoint(run)
    assert checkpoint.autoencoder == run / "autoencoder"
    assert checkpoint.tokenizer == run / "tokenizer"
    assert open_checkpoint(run / "checkpoints" / "0").name == "converted, step 0"


@pytest.mark.parametrize("key", ["autoencoder", "weights", "sample", "lora", "imports", "data"])
def test_a_run_whose_config_lacks_a_newer_key_opens_with_its_default(run, tmp_path, key):
    expected = open_checkpoint(run)
    checkpoint = open_checkpoint(_with_config(run, tmp_path / "old", lambda c: c.pop(key)))
    assert checkpoint.model == expected.model and checkpoint.sampling == expected.sampling
    assert checkpoint.autoencoder is None and checkpoint.tokenizer is None


@pytest.mark.parametrize("name", ["/nowhere/moved_head.py", "moved_head"])
def test_a_missing_extension_matters_only_if_the_model_needs_it(run, tmp_path, name, monkeypatch):
    monkeypatch.setattr(extensions, "_not_found", {})
    named = _with_config(run, tmp_path / "named", lambda c: c.update(imports=[name]))
    assert open_checkpoint(named).model == open_checkpoint(run).model
    needed = _with_config(named, tmp_path / "needed", lambda c: c["model"].update(head="mine"))
    with pytest.raises(UserError, match=rf"head 'mine' is unknown.* not found: {name}; .*--import"):
        open_checkpoint(needed)


def _with_config(run, output, change):
    """Copies one step of a run, without autoencoder and tokenizer, and changes its config."""
    folder = run / "checkpoints"
    shutil.copytree(folder, output / "checkpoints")
    (path,) = (output / "checkpoints" / "0" / "config").glob("metadata")
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")
    return output


def test_the_bundled_model_is_found_by_name():
    checkpoint = open_checkpoint("small")
    assert (checkpoint.kind, checkpoint.name) == ("bundle", "small")
    assert checkpoint.sampling.steps == 2 and checkpoint.sampling.tile == 160
    assert checkpoint.tokenizer is None and checkpoint.autoencoder is None


def test_a_peft_adapter_with_its_base_is_a_model(original, adapter):
    """As parameters around the weights, and merged into them, up to rounding in bfloat16."""
    checkpoint = open_checkpoint(adapter, base=original)
    assert (checkpoint.kind, checkpoint.lora) == ("peft", LoRAConfig(2, 4.0, ("qkv_proj",)))
    assert checkpoint.base == original
    around = load_trained(adapter, base=original).parameters
    merged = load_trained(original, [WeightedAdapter(adapter)]).parameters
    inner = around["transformer"]["layers"]["self_attn"]["qkv_proj"]
    update = np.einsum("lir,lr...->li...", inner["lora_a"], inner["lora_b"]) * 2.0
    np.testing.assert_allclose(
        np.asarray(merged["transformer"]["layers"]["self_attn"]["qkv_proj"]["kernel"], np.float32),
        np.asarray(inner["kernel"], np.float32) + update,
        atol=0.02,
    )


def test_an_adapter_without_a_base_is_refused(adapter):
    with pytest.raises(UserError, match=r"is an adapter: name the weights under it with --base"):
        open_checkpoint(adapter)


def test_an_adapter_on_an_adapter_is_refused(original, adapter, tmp_path):
    run = convert(adapter, tmp_path / "run", base=original, quiet=True)
    for base in (run, adapter):
        for path in (run, adapter):
            with pytest.raises(
                UserError, match=rf"base {base} is an adapter itself: merge it firs"
            ):
                open_checkpoint(path, base=base)


@pytest.mark.parametrize("name", ["nowhere", "small@best", "."])
def test_a_path_without_a_model_is_refused_by_name(tmp_path, name):
    with pytest.raises(UserError, match="no checkpoint in"):
        open_checkpoint(tmp_path / name)


def test_a_bundle_of_old_key_names_is_read(tmp_path):
    convert("small", tmp_path / "bundle", to="bundle", quiet=True)
    path = tmp_path / "bundle" / "recipe.json"
    recipe = json.loads(path.read_text(encoding="utf-8"))
    recipe["model"]["target_sees_sources"] = recipe["model"].pop("source_skip")
    path.write_text(json.dumps(recipe), encoding="utf-8")
    assert open_checkpoint(tmp_path / "bundle").model == open_checkpoint("small").model


def test_weights_of_another_shape_do_not_fit(original):
    checkpoint = open_checkpoint(original)
    checkpoint.check_fits(checkpoint.model)
    with pytest.raises(UserError, match=r"have model\.hidden_size 64, the recipe 192"):
        checkpoint.check_fits(open_checkpoint("small").model)


def test_a_registered_layout_can_be_written(original, tmp_path, monkeypatch):
    def write_names(checkpoint, output, *, quiet=False):
        output.write_text("\n".join(sorted(".".join(path) for path in checkpoint.shapes())))

    monkeypatch.setattr(LAYOUTS, "_entries", dict(LAYOUTS))
    LAYOUTS.register("names", write_names)
    convert(original, tmp_path / "names.txt", to="names", quiet=True)
    assert "embed_tokens" in (tmp_path / "names.txt").read_text().splitlines()


def test_a_registered_layout_can_be_read(tmp_path, monkeypatch):
    """Before the layouts of this package, which recognize any file."""
    path = tmp_path / "model.mine"
    path.touch()
    layout = StoredLayout(lambda path: path.suffix == ".mine", lambda *_: open_checkpoint("small"))
    monkeypatch.setattr(STORED_LAYOUTS, "_entries", dict(STORED_LAYOUTS))
    STORED_LAYOUTS.register("mine", layout)
    assert load_trained(path).name == "small"


def test_two_conversions_to_one_output_do_not_share_a_temporary_folder(tmp_path):
    output = tmp_path / "out"
    with new_folder(output) as first:
        (first / "file").write_text("first")
        with pytest.raises(UserError, match="cannot be written"), new_folder(output) as second:
            assert second != first and not list(second.iterdir())
            (second / "file").write_text("second")
            output.mkdir()
            (output / "other").touch()
        (output / "other").unlink()
        output.rmdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (output / "file").read_text() == "first"


def test_a_tree_that_lacks_parameters_is_refused():
    checkpoint = open_checkpoint("small")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.ShapeDtypeStruct((2048, 192), np.float32, sharding=device)
    with pytest.raises(UserError, match=r"has the unknown tensor .*: it was made for another"):
        checkpoint.read({"embed_tokens": like})
    assert checkpoint.shapes()[("embed_tokens",)].dtype == "bfloat16"
