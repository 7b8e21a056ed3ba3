"""Models and tokenizers on the Hub: what is downloaded, and how it is recorded."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ditfuse_jax import hub
from ditfuse_jax.convert import convert
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.model.network import Network, make_graph
from ditfuse_jax.parallel import processes
from ditfuse_jax.prompts.tokenizer import load_tokenizer, tokenizer_folder
from ditfuse_jax.sample.trained import WeightedAdapter
from ditfuse_jax.train.initial import initialize_from
from ditfuse_jax.train.pinned import check_same_weights, with_pinned_addresses
from ditfuse_jax.train.recipe import default_config, load_recipe
from ditfuse_jax.weights import Adapter, open_adapter, open_checkpoint, write_adapter
from ditfuse_jax.weights.autoencoder import fingerprint
from ditfuse_jax.weights.hub_files import model_files
from ditfuse_jax.weights.license import find_license

OMNIGEN = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
VAE = ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize(
    ("needed", "others"),
    [
        # OmniGen-v1 as released.
        (
            [*OMNIGEN, *VAE, "LICENSE"],
            ["README.md", "model.pt", "assets/picture.png", "vae/diffusion_pytorch_model.bin"],
        ),
        # diffusers' port: shards of the transformer.
        (
            [
                "model_index.json",
                "scheduler/scheduler_config.json",
                "tokenizer/tokenizer.json",
                "tokenizer/tokenizer.model",
                "transformer/config.json",
                "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
                "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
                "transformer/diffusion_pytorch_model.safetensors.index.json",
                *VAE,
            ],
            [
                "model.safetensors",
                "transformer/diffusion_pytorch_model.fp16.safetensors",
                "text_encoder/model.safetensors",
                "vae/diffusion_pytorch_model.fp16.safetensors",
            ],
        ),
        # An autoencoder with a copy for other programs.
        (
            ["config.json", "diffusion_pytorch_model.safetensors"],
            ["sdxl_vae.safetensors", "diffusion_pytorch_model.bin", "README.md"],
        ),
        # A PEFT adapter, whose optimiser was uploaded too.
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            ["optimizer.pt", "adapter_model.bin", "training_args.bin"],
        ),
        # A file of another name.
        (["config.json", "omnigen.safetensors"], [".gitattributes", "x/y.safetensors"]),
        # A run: its newest step, without what only training reads.
        (
            [
                "config.json",
                "autoencoder/config.json",
                "autoencoder/diffusion_pytorch_model.safetensors",
                "checkpoints/200/ema/d/1",
                "checkpoints/200/config/metadata",
                "checkpoints/200/_CHECKPOINT_METADATA",
            ],
            [
                "metrics.jsonl",
                "checkpoints/90/ema/d/1",
                "checkpoints/200/training/d/1",
                "tensorboard/events",
                "samples/1.png",
            ],
        ),
    ],
)
def test_only_the_files_that_are_read_are_chosen(needed, others):
    assert model_files(sorted([*needed, *others])) == sorted(needed)


def test_weights_that_are_only_pickles_are_refused_by_name():
    with pytest.raises(UserError, match=r"model\.pt, and reading a pickle runs the code"):
        model_files(["config.json", "model.pt"])
    assert model_files(["README.md"]) == []


@pytest.fixture(scope="module")
def original(omnigen_folder, tmp_path_factory) -> Path:
    """A small random model in OmniGen's layout with a licence."""
    folder = tmp_path_factory.mktemp("download") / "OmniGen"
    omnigen_folder.write(folder, hidden=64, layers=2, heads=4, kv_heads=2, mlp=96)
    (folder / "LICENSE").write_text("MIT")
    return folder


@pytest.fixture(scope="module")
def adapter(original, tmp_path_factory) -> Path:
    """A random PEFT adapter for it."""
    folder = tmp_path_factory.mktemp("peft") / "adapter"
    folder.mkdir()
    model, lora = open_checkpoint(original).model, LoRAConfig(2, 4.0, ("qkv_proj",))
    _, state = make_graph(Network(model, lora))
    shapes = state["transformer"]["layers"]["self_attn"]["qkv_proj"]
    leaves = {name: np.full(shapes[name].shape, 0.1, np.float32) for name in ("lora_a", "lora_b")}
    nested = {"transformer": {"layers": {"self_attn": {"qkv_proj": leaves}}}}
    write_adapter(folder, Adapter(lora, nested), model)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_model_on_the_hub_is_the_local_one_named_by_its_commit(hub_server, original):
    commit = hub_server.add("lab/OmniGen", files_of(original) | {"model.pt": b"pickle"})
    local, remote = open_checkpoint(original), open_checkpoint("hf://lab/OmniGen")
    assert remote.name == f"hf://lab/OmniGen@{commit}"
    assert remote.model == local.model
    for path in local.shapes():
        np.testing.assert_array_equal(remote.read_leaf(path), local.read_leaf(path))
    assert "model.pt" not in hub_server.downloads()
    terms = find_license(remote)
    assert terms is not None and terms.read_text() == "MIT"


def test_a_path_of_pathlib_works_as_well_as_text(hub_server, original):
    hub_server.add("lab/OmniGen", files_of(original))
    assert open_checkpoint(Path("hf://lab/OmniGen")).name.startswith("hf://lab/OmniGen@")


def test_autoencoder_and_tokenizer_are_downloaded_alone(hub_server, original):
    commit = hub_server.add("lab/OmniGen", files_of(original))
    assert fingerprint("hf://lab/OmniGen/vae") == fingerprint(original / "vae")
    assert len(load_tokenizer("hf://lab/OmniGen")) == len(load_tokenizer(original))
    assert hub.recorded(tokenizer_folder("hf://lab/OmniGen")) == f"hf://lab/OmniGen@{commit}"
    assert "model.safetensors" not in hub_server.downloads()
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        load_tokenizer("hf://lab/OmniGen/vae")


def test_an_adapter_on_the_hub_goes_with_weights_on_the_hub(hub_server, original, adapter):
    base = hub_server.add("lab/OmniGen", files_of(original))
    commit = hub_server.add("lab/adapter", files_of(adapter), branch="v1")
    model = open_checkpoint(original).model
    found, expected = open_adapter("hf://lab/adapter@v1", model), open_adapter(adapter, model)
    jax.tree.map(np.testing.assert_array_equal, found.leaves, expected.leaves)
    both = open_checkpoint("hf://lab/adapter@v1", base="hf://lab/OmniGen")
    assert both.name == f"hf://lab/adapter@{commit}"
    assert hub.recorded(str(both.base)) == f"hf://lab/OmniGen@{base}"
    parsed = WeightedAdapter.parse("hf://lab/adapter@v1=0.5")
    assert str(parsed) == f"hf://lab/adapter@{commit}=0.5"


def test_a_recipe_records_the_commits_that_it_starts_from(hub_server, original):
    commit = hub_server.add("lab/OmniGen", files_of(original))
    config = default_config("omnigen")
    initialize_from(config, "hf://lab/OmniGen")
    assert config.weights == f"hf://lab/OmniGen@{commit}"
    assert config.autoencoder == f"hf://lab/OmniGen@{commit}/vae"
    assert config.data.tokenizer == f"hf://lab/OmniGen@{commit}"
    assert config.model.hidden_size == 64


def test_addresses_in_overrides_are_recorded_with_their_commits(hub_server, original):
    commit = hub_server.add("lab/OmniGen", files_of(original))
    config = load_recipe(
        "nano_m3",
        ["--config.weights=hf://lab/OmniGen", "--config.data.tokenizer=hf://lab/OmniGen@main"],
    )
    pinned = with_pinned_addresses(config)
    assert pinned.weights == pinned.data.tokenizer == f"hf://lab/OmniGen@{commit}"
    assert pinned.is_locked and config.weights == "hf://lab/OmniGen"
    plain = load_recipe("nano_m3")
    assert with_pinned_addresses(plain) is plain


def test_adapters_do_not_continue_around_another_commit_of_their_weights(tmp_path):
    old, new = (f"hf://lab/OmniGen@{digit * 40}" for digit in "01")
    config = default_config("omnigen")
    config.weights = new
    config.lora.rank = 8
    check_same_weights({"weights": new}, config, tmp_path)
    check_same_weights({"weights": "/a/folder"}, config, tmp_path)
    with pytest.raises(UserError, match=f"adapts {old}, which is now {new}"):
        check_same_weights({"weights": old}, config, tmp_path)
    config.lora.rank = 0  # the weights were only the start
    check_same_weights({"weights": old}, config, tmp_path)


class Store:
    """The key-value store of two processes."""

    def __init__(self):
        self.values: dict[str, str] = {}

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        self.values[key] = value

    def blocking_key_value_get(self, key: str, milliseconds: int) -> str:
        return self.values[key]


def test_all_processes_use_the_commit_that_the_main_process_has_found(
    hub_server, original, monkeypatch
):
    first = hub_server.add("lab/OmniGen", {"config.json": b"{}"})
    store = Store()

    class State:
        client, num_processes, process_id = store, 2, 0

    monkeypatch.setattr(processes.compat, "distributed_state", lambda: State)
    config = load_recipe("nano_m3", ["--config.weights=hf://lab/OmniGen"])
    with_pinned_addresses(config)
    hub_server.add("lab/OmniGen", {"config.json": b"{1}"})
    hub_server.forget()
    State.process_id = 1
    assert with_pinned_addresses(config).weights == f"hf://lab/OmniGen@{first}"


@pytest.mark.medium
def test_a_run_of_adapters_finds_its_weights_on_the_hub(hub_server, original, adapter, tmp_path):
    hub_server.add("lab/OmniGen", files_of(original))
    run = convert(adapter, tmp_path / "run", base="hf://lab/OmniGen", quiet=True)
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["weights"] == hub.pinned("hf://lab/OmniGen")
    hub_server.forget()
    opened = open_checkpoint(run)
    assert hub.recorded(str(opened.base)) == recorded["weights"]
    local = open_checkpoint(adapter, base=original)
    for path in local.shapes():
        np.testing.assert_array_equal(opened.read_leaf(path), local.read_leaf(path))


@pytest.mark.medium
def test_a_pushed_run_of_adapters_says_which_weights_it_needs_but_not_where_they_are(
    original, adapter, tmp_path
):
    run = convert(adapter, tmp_path / "run", base=original, push="hf://me/m", quiet=True)
    found = [path for path in run.rglob("*") if path.is_file()]
    here = str(original.parent).encode()
    assert found and not any(here in path.read_bytes() for path in found)
    with pytest.raises(
        UserError, match=r"adapts the weights in OmniGen, which do not exist .*--base"
    ):
        open_checkpoint(run).read_leaf(("embed_tokens",))
    opened, local = (open_checkpoint(path, base=original) for path in (run, adapter))
    for path in local.shapes():
        np.testing.assert_array_equal(opened.read_leaf(path), local.read_leaf(path))


@pytest.mark.medium
@pytest.mark.slow
def test_a_run_folder_works_on_the_hub_like_here(hub_server, original, tmp_path):
    run = convert(original, tmp_path / "run", quiet=True)
    commit = hub_server.add("lab/run", files_of(run))
    local, remote = open_checkpoint(run), open_checkpoint("hf://lab/run")
    assert remote.name == f"hf://lab/run@{commit}, step 0"
    for path in local.shapes():
        np.testing.assert_array_equal(remote.read_leaf(path), local.read_leaf(path))
    config = default_config("omnigen")
    initialize_from(config, "hf://lab/run")
    assert config.autoencoder == f"hf://lab/run@{commit}/autoencoder"
