"""Adapters of PEFT: what is in their files, and what it does to the weights."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ditfuse_jax.errors import UserError
from ditfuse_jax.model.lora import LoRAConfig
from ditfuse_jax.weights import read_adapter, write_adapter
from ditfuse_jax.weights.maps import linear_maps
from ditfuse_jax.weights.peft import Adapter


@pytest.fixture(scope="module")
def config(models):
    return dataclasses.replace(models.LATENT, num_layers=3)


def random_adapter(config, lora) -> Adapter:
    random = np.random.default_rng(0)
    leaves = {}
    for linear in linear_maps(config):
        if (
            linear.path[-1] not in lora.target_modules
            and ".".join(linear.path) not in lora.target_modules
        ):
            continue
        stack = (config.num_layers,) if linear.stacked else ()
        inner = leaves
        for key in linear.path:
            inner = inner.setdefault(key, {})
        inner["lora_a"] = random.standard_normal((*stack, *linear.inputs.shape, lora.rank), "f4")
        inner["lora_b"] = random.standard_normal((*stack, lora.rank, *linear.outputs.shape), "f4")
    return Adapter(lora, leaves)


def updates(adapter, config) -> dict[str, np.ndarray]:
    """The full update of every map under its original name, (out, in)."""
    found = {}
    for linear in linear_maps(config):
        inner = adapter.leaves
        for key in linear.path:
            inner = inner.get(key, {})
        if not inner:
            continue
        for number in range(config.num_layers if linear.stacked else 1):
            a, b = (inner[x][number] if linear.stacked else inner[x] for x in ("lora_a", "lora_b"))
            low, high = linear.factor_a_back(a), linear.factor_b_back(b)
            product = high.reshape(len(high), -1) @ low.reshape(len(low), -1)
            found[linear.name.format(number)] = adapter.lora.scaling * product
    return found


ADAPTERS = {
    "released": LoRAConfig(8, 8.0, ("qkv_proj", "o_proj")),
    "paper": LoRAConfig(6, 3.0, ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "use_rslora": LoRAConfig(4, 2.5, ("qkv_proj",), use_rslora=True),
    "everything": LoRAConfig(
        2,
        2.0,
        (
            *("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
            *("time_token.inner", "time_token.outer", "t_embedder.inner", "t_embedder.outer"),
            *("head.output.modulation", "head.output.linear", "x_embedder", "input_x_embedder"),
        ),
    ),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_written_and_read_is_the_same(config, tmp_path, name):
    adapter = random_adapter(config, ADAPTERS[name])
    write_adapter(tmp_path, adapter, config)
    again = read_adapter(tmp_path, config)
    assert set(again.lora.target_modules) == set(adapter.lora.target_modules)
    for field in ("rank", "alpha", "use_rslora"):
        assert getattr(again.lora, field) == getattr(adapter.lora, field)
    jax.tree.map(np.testing.assert_array_equal, again.leaves, adapter.leaves)


def test_the_sampling_that_a_student_was_trained_for_is_written_and_read(config, tmp_path):
    distilled = {"loss": "student_trajectory", "sample": {"steps": 4, "guidance_scale": 1.0}}
    adapter = random_adapter(config, ADAPTERS["released"])
    write_adapter(tmp_path, dataclasses.replace(adapter, distilled=distilled), config)
    assert read_adapter(tmp_path, config).distilled == distilled


@pytest.mark.parametrize("text", ["{", "[]", '{"loss": "x"}', '{"loss": "x", "sample": {"a": 1}}'])
def test_a_damaged_note_of_a_student_s_sampling_is_refused(changed, config, text):
    folder = changed()
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path), path, {"distilled": text})
    with pytest.raises(UserError, match="'distilled' cannot be read"):
        read_adapter(folder, config)


@pytest.mark.parametrize("path", ["prompt_pool.value", "head.of_source", "head.output.linear"])
def test_an_adapter_for_maps_that_omnigen_lacks_is_not_written(models, tmp_path, path):
    config = dataclasses.replace(models.PIXEL, head="bands")
    adapter = random_adapter(config, ADAPTERS["released"])
    inner = adapter.leaves
    for key in path.split("."):
        inner = inner.setdefault(key, {})
    inner |= {"lora_a": np.zeros((32, 8)), "lora_b": np.zeros((8, 32))}
    with pytest.raises(UserError, match=f"changes {path}, which OmniGen does not have"):
        write_adapter(tmp_path, adapter, config)
    assert not [*tmp_path.iterdir()]


def test_the_official_adapter_is_read(official):
    adapter = read_adapter(official.folder / "lora", official.config())
    assert (adapter.lora.rank, adapter.lora.alpha) == (4, 8.0)
    assert set(adapter.lora.target_modules) == {"qkv_proj", "o_proj"}
    raw = load_file(official.folder / "lora" / "adapter_model.safetensors")
    name = "base_model.model.llm.layers.2.self_attn.o_proj"
    update = 2.0 * raw[f"{name}.lora_B.weight"] @ raw[f"{name}.lora_A.weight"]
    found = updates(adapter, official.config())["llm.layers.2.self_attn.o_proj"]
    np.testing.assert_allclose(found, update, rtol=1e-5, atol=1e-7)


@pytest.fixture
def changed(config, tmp_path):
    """Writes an adapter with a changed config and changed tensors; returns its folder."""

    def change(tensors=lambda t: t, lora=ADAPTERS["released"], **settings):
        adapter = random_adapter(config, lora)
        write_adapter(tmp_path, adapter, config)
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        path = tmp_path / "adapter_model.safetensors"
        save_file(tensors(load_file(path)), path)
        return tmp_path

    return change


def expected(folder, config, scaling) -> dict[str, np.ndarray]:
    """Updates straight from the files; `scaling` of a module's name and rank."""
    raw = load_file(folder / "adapter_model.safetensors")
    found = {}
    for name in raw:
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            a, b = raw[name], raw[name.replace("lora_A", "lora_B")]
            found[module] = scaling(module, len(a)) * b @ a
    return found


def assert_updates(adapter, config, wanted):
    found = updates(adapter, config)
    for name, update in found.items():
        if name in wanted:
            np.testing.assert_allclose(update, wanted[name], rtol=1e-4, atol=1e-4)
        else:
            assert not update.any()  # a layer that is not adapted
    assert set(wanted) <= set(found)


def test_patterns_of_rank_and_alpha_have_their_effect(config, changed):
    def cut(tensors):
        for name, value in tensors.items():
            if "o_proj" in name:
                tensors[name] = value[:3].copy() if "lora_A" in name else value[:, :3].copy()
        return tensors

    folder = changed(
        cut, rank_pattern={"o_proj": 3}, alpha_pattern={r"layers\.1\.self_attn\.qkv_proj": 20}
    )
    adapter = read_adapter(folder, config)

    def scaling(module, rank):
        return (20 if module == "llm.layers.1.self_attn.qkv_proj" else 8) / rank

    assert adapter.lora.rank == 8
    assert_updates(adapter, config, expected(folder, config, scaling))


def test_layers_without_adapter_get_none(config, changed):
    folder = changed(
        lambda tensors: {n: x for n, x in tensors.items() if "layers.1." in n},
        layers_to_transform=[1],
    )
    adapter = read_adapter(folder, config)
    assert_updates(adapter, config, expected(folder, config, lambda module, rank: 1.0))


def test_names_with_the_adapter_s_name_in_them_are_read_too(config, changed):
    plain = read_adapter(changed(), config)
    named = read_adapter(
        changed(lambda t: {n.replace(".weight", ".default.weight"): x for n, x in t.items()}),
        config,
    )
    jax.tree.map(np.testing.assert_array_equal, named.leaves, plain.leaves)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: f"module._orig_mod.{name}".replace(".weight", ".default.weight"),
        lambda name: name.replace("llm.", "llm._fsdp_wrapped_module."),
        lambda name: name.replace(".weight", ".my_adapter.weight"),
        lambda name: name.removeprefix("base_model.model."),
    ],
)
def test_names_inside_wrappers_of_pytorch_are_read_too(config, changed, wrap):
    plain = read_adapter(changed(), config)
    wrapped = read_adapter(changed(lambda t: {wrap(name): x for name, x in t.items()}), config)
    jax.tree.map(np.testing.assert_array_equal, wrapped.leaves, plain.leaves)


def test_two_adapters_in_one_file_are_refused_by_name(config, changed):
    def both(tensors):
        return {n.replace(".weight", f".{k}.weight"): x for n, x in tensors.items() for k in "xy"}

    with pytest.raises(UserError, match="holds the adapters x, y: save one"):
        read_adapter(changed(both), config)


def test_a_tensor_that_is_there_twice_is_refused_by_name(config, changed):
    def both(tensors):
        return tensors | {f"module.{name}": value for name, value in tensors.items()}

    with pytest.raises(UserError, match=r"holds tensor .*lora_A\.weight twice"):
        read_adapter(changed(both), config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["x_embedder"]),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("kasa_config", {"beta": 1e-4}),
        ("use_bdlora", {"nblocks": 2}),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "what comes next"),
        ("init_lora_weights", 1),
        ("what_comes_next", True),
        ("what_comes_next", 0.5),
    ],
)
def test_an_adapter_with_more_than_a_low_rank_update_is_refused(config, changed, key, value):
    with pytest.raises(
        UserError, match=rf"adapter_config\.json: {key} .* is not supported: .*PEFT"
    ):
        read_adapter(changed(**{key: value}), config)


@pytest.mark.parametrize("kind", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "lora_ga"])
def test_an_adapter_of_changed_weights_is_refused_with_the_remedy(config, changed, kind):
    remedy = "path_initial_model_for_weight_conversion"
    with pytest.raises(UserError, match=f"init_lora_weights {kind!r} is not supported: .*{remedy}"):
        read_adapter(changed(init_lora_weights=kind), config)


@pytest.mark.parametrize(
    "settings",
    [{"init_lora_weights": kind} for kind in (True, False, "gaussian", "eva", "orthogonal", "mica")]
    # PEFT converts an adapter of CorDA to plain LoRA without removing these.
    + [{"corda_config": {"corda_method": "ipm"}, "loftq_config": {}}]
    + [{"what_comes_next": off} for off in (None, False, [], {})]
    + [{"lora_dropout": 0.1, "peft_version": "0.99", "revision": "main", "megatron_core": "x"}],
)
def test_settings_that_leave_a_low_rank_update_are_accepted(config, changed, settings):
    plain = read_adapter(changed(), config)
    again = read_adapter(changed(**settings), config)
    jax.tree.map(np.testing.assert_array_equal, again.leaves, plain.leaves)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 4}, r"has shape \(8, 32\), expected \(4, 32\) for this model and rank 4"),
        ({"r": 0}, "r 0 must be at least 1"),
        ({"r": True}, "r True is not a whole number"),
        ({"lora_alpha": "8"}, "lora_alpha '8' is not a number"),
        ({"rank_pattern": {"(": 4}}, r"rank_pattern: '\(' is no pattern"),
        ({"alpha_pattern": [1]}, r"alpha_pattern \[1\] is not an object"),
        ({"alpha_pattern": {"o_proj": None}}, "alpha_pattern of 'o_proj' None is not a number"),
    ],
)
def test_a_wrong_rank_or_scaling_is_refused_by_name(config, changed, settings, message):
    with pytest.raises(UserError, match=message):
        read_adapter(changed(**settings), config)


def test_an_adapter_for_other_modules_is_refused_by_name(config, changed):
    def rename(tensors):
        return {name.replace("qkv_proj", "q_proj"): value for name, value in tensors.items()}

    with pytest.raises(UserError, match=r"q_proj\.lora_A\.weight adapts nothing"):
        read_adapter(changed(rename), config)


def test_an_adapter_for_more_layers_is_refused_by_name(config, changed):
    folder = changed()
    fewer = dataclasses.replace(config, num_layers=2)
    with pytest.raises(UserError, match=r"layers\.2\..* adapts nothing .*2 layers of width 32"):
        read_adapter(folder, fewer)


def test_an_adapter_for_another_width_is_refused_with_both_shapes(config, changed):
    folder = changed()
    wide = dataclasses.replace(config, hidden_size=64)
    with pytest.raises(UserError, match=r"lora_A\.weight has shape \(8, 32\), expected \(8, 64\)"):
        read_adapter(folder, wide)


def test_a_missing_factor_is_named(config, changed):
    folder = changed(lambda t: {n: x for n, x in t.items() if "2.self_attn.o_proj.lora_B" not in n})
    with pytest.raises(UserError, match=r"lacks .*layers\.2\.self_attn\.o_proj\.lora_B\.weight"):
        read_adapter(folder, config)


def test_a_folder_without_config_is_refused(config, changed, tmp_path):
    folder = changed()
    (folder / "adapter_config.json").unlink()
    with pytest.raises(UserError, match=r"adapter_config\.json is missing"):
        read_adapter(folder, config)


def test_a_config_without_rank_is_refused(config, changed):
    with pytest.raises(UserError, match="lacks r"):
        read_adapter(changed(r=None), config)


class Tree:
    """A module tree of PyTorch with the original's names."""

    def __new__(cls, config):
        import torch  # pyright: ignore[reportMissingImports]

        def place(root, name, module):
            *parents, last = name.split(".")
            for parent in parents:
                if not hasattr(root, parent):
                    root.add_module(parent, torch.nn.Module())
                root = getattr(root, parent)
            root.add_module(last, module)

        root = torch.nn.Module()
        for linear in linear_maps(config):
            shape = linear.weight_shape
            for number in range(config.num_layers if linear.stacked else 1):
                if linear.kernel:
                    made = torch.nn.Conv2d(shape[1], shape[0], linear.kernel, linear.kernel)
                else:
                    made = torch.nn.Linear(shape[1], shape[0], bias=linear.bias)
                place(root, linear.name.format(number), made)
        return root


def deltas(wrapped) -> dict[str, np.ndarray]:
    """PEFT's own updates under the original names."""
    found = {}
    for name, module in wrapped.named_modules():
        if hasattr(module, "get_delta_weight") and "default" in module.lora_A:
            found[name.removeprefix("base_model.model.")] = (
                module.get_delta_weight("default").detach().numpy()
            )
    return found


@pytest.mark.parity
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 8, "lora_alpha": 8, "target_modules": ["qkv_proj", "o_proj"]},
        {
            "r": 64,
            "lora_alpha": 32,
            "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
        },
        {"r": 4, "lora_alpha": 6, "target_modules": ["qkv_proj"], "use_rslora": True},
        {
            "r": 4,
            "lora_alpha": 6,
            "target_modules": r".*(qkv_proj|time_token\.mlp\.2|adaLN_modulation\.1)",
            "rank_pattern": {"qkv_proj": 2},
            "alpha_pattern": {r"llm\.layers\.1\.self_attn\.qkv_proj": 11},
        },
        {"r": 3, "lora_alpha": 3, "target_modules": ["down_proj"], "layers_to_transform": [0, 2]},
        {"r": 3, "lora_alpha": 1, "target_modules": ["x_embedder.proj", "final_layer.linear"]},
    ],
    ids=["released", "paper", "use_rslora", "patterns", "some layers", "fronts"],
)
def test_peft_s_adapters_have_the_same_effect_both_ways(config, settings, tmp_path):
    pytest.importorskip("torch", reason="parity with PEFT needs torch")
    peft = pytest.importorskip("peft", reason="parity with PEFT needs peft")
    wrapped = peft.get_peft_model(
        Tree(config), peft.LoraConfig(**settings, init_lora_weights=False)
    )
    wrapped.save_pretrained(tmp_path / "theirs")
    adapter = read_adapter(tmp_path / "theirs", config)
    theirs = {name: d.reshape(len(d), -1) for name, d in deltas(wrapped).items()}

    def assert_same(found):
        for name, update in found.items():
            np.testing.assert_allclose(update, theirs.get(name, 0 * update), rtol=1e-4, atol=1e-5)
        assert set(theirs) <= set(found)

    assert_same(updates(adapter, config))
    (tmp_path / "ours").mkdir()
    write_adapter(tmp_path / "ours", adapter, config)
    loaded = peft.PeftModel.from_pretrained(Tree(config), str(tmp_path / "ours"))
    assert_same({name: d.reshape(len(d), -1) for name, d in deltas(loaded).items()})
    shutil.rmtree(tmp_path / "ours")
