"""Pushing converted folders: what the repository held before never mixes with what is pushed."""

import itertools

import pytest

from ditfuse_jax.convert.publish import push
from ditfuse_jax.errors import UserError

CARD = {"README.md": b"---\nlicense: mit\n---\n# Model\n", "LICENSE": b"MIT"}
STEP = "checkpoints/0"
LAYOUTS = {
    "run": ("config.json", f"{STEP}/config/metadata", f"{STEP}/parameters/embed_tokens/0.0"),
    "adapter run": ("config.json", f"{STEP}/config/metadata", f"{STEP}/lora/lora_a/0.0"),
    "bundle": ("model.safetensors", "recipe.json"),
    "omnigen": ("model.safetensors", "config.json", "tokenizer.json"),
    "peft": ("adapter_model.safetensors", "adapter_config.json"),
}


def files(layout: str, content: bytes) -> dict[str, bytes]:
    return dict.fromkeys(LAYOUTS[layout], content) | CARD


def push_layout(folder, layout: str, content: bytes) -> None:
    for name, data in files(layout, content).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    push(folder, "hf://me/m")


@pytest.mark.parametrize(("there", "pushed"), itertools.permutations(LAYOUTS, 2))
def test_a_model_is_not_pushed_over_one_of_another_layout(hub_server, tmp_path, there, pushed):
    hub_server.log_in()
    hub_server.add("me/m", files(there, b'"old"'))
    with pytest.raises(UserError) as failure:
        push_layout(tmp_path, pushed, b'"new"')
    (named, *_) = sorted({*LAYOUTS[there]} - {*LAYOUTS[pushed]})
    assert f"hf://me/m holds {named} " in str(failure.value) and "\n" not in str(failure.value)
    assert len(hub_server.repositories["me/m"].commits) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_replaces_one_of_its_layout_and_leaves_what_is_no_part_of_it(
    hub_server, tmp_path, layout
):
    hub_server.log_in()
    kept = {"assets/a.png": b"picture", "report.json": b"{}", "deep/er/config.json": b"{}"}
    hub_server.add("me/m", files(layout, b'"old"') | kept)
    push_layout(tmp_path, layout, b'"new"')
    repository = hub_server.repositories["me/m"]
    held = repository.commits[repository.branches["main"]]
    assert {name: held[name] for name in LAYOUTS[layout]} == dict.fromkeys(
        LAYOUTS[layout], b'"new"'
    )
    assert {name: held[name] for name in kept} == kept


def test_the_tokenizer_of_an_earlier_run_does_not_stay_beside_a_new_one(hub_server, tmp_path):
    hub_server.log_in()
    hub_server.add("me/m", files("run", b'"old"') | {"tokenizer/tokenizer.json": b"{}"})
    with pytest.raises(UserError, match=r"holds tokenizer/tokenizer\.json of another model"):
        push_layout(tmp_path, "run", b'"new"')
