"""Addresses on the Hugging Face Hub: parsing, downloads, pinned commits, errors, uploads."""

import errno
from pathlib import Path

import pytest

from ditfuse_jax import hub
from ditfuse_jax.errors import UserError
from ditfuse_jax.hub import HubAddress

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 5000,
    "sub/one [a].json": b"[1]",
    "pytorch_model.bin": b"pickle",
}


def everything(names):
    return names


def one_line(failure) -> str:
    text = str(failure.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("text", "repository", "revision", "folder"),
    [
        ("hf://a/b", "a/b", "", ""),
        ("hf://a/b/", "a/b", "", ""),
        ("hf:/a/b", "a/b", "", ""),  # what pathlib makes of it
        ("hf://a-1/b.c_2@v1.0", "a-1/b.c_2", "v1.0", ""),
        ("hf://a/b/vae/x", "a/b", "", "vae/x"),
        ("hf://a/b@main/vae", "a/b", "main", "vae"),
        ("hf://a/b@refs/pr/3/vae", "a/b", "refs/pr/3", "vae"),
    ],
)
def test_an_address_names_repository_revision_and_folder(text, repository, revision, folder):
    parsed = HubAddress.parse(text)
    assert parsed == HubAddress(repository, revision, folder)
    assert HubAddress.parse(str(parsed)) == parsed
    assert HubAddress.parse(Path(str(parsed))) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://a",
        "hf://a@v1",
        "hf://datasets/a/b",
        "hf://a/b@",
        "hf://a/b/../c",
        "hf://a b/c",
    ],
)
def test_what_is_no_address_of_a_model_is_refused_in_one_line(text):
    with pytest.raises(UserError) as failure:
        HubAddress.parse(text)
    assert "hf://OWNER/NAME" in one_line(failure)


def test_only_the_chosen_files_are_downloaded_and_only_once(hub_server):
    commit = hub_server.add("me/model", FILES)
    folder = hub.download("hf://me/model", lambda names: ["config.json", "sub/one [a].json"], "x")
    assert (folder / "sub" / "one [a].json").read_bytes() == b"[1]"
    assert not (folder / "model.safetensors").exists()
    assert hub_server.downloads() == ["config.json", "sub/one [a].json"]
    # The commit is known to the process, and the files are in the cache.
    hub_server.requests.clear()
    again = hub.download(f"hf://me/model@{commit}", lambda names: ["config.json"], "x")
    assert again == folder and hub_server.requests == []


def test_a_folder_of_a_repository_is_named_after_the_revision(hub_server):
    hub_server.add("me/model", FILES)
    seen = []
    folder = hub.download("hf://me/model@main/sub", lambda names: seen.extend(names) or names, "x")
    assert seen == ["one [a].json"]
    assert [path.name for path in folder.iterdir()] == seen


def test_a_download_is_recorded_with_its_commit(hub_server, tmp_path):
    commit = hub_server.add("me/model", FILES)
    folder = hub.download("hf://me/model", everything, "x")
    assert hub.recorded(folder) == hub.pinned("hf://me/model") == f"hf://me/model@{commit}"
    assert hub.recorded(folder / "sub") == f"hf://me/model@{commit}/sub"
    assert hub.recorded("hf://me/model/sub") == f"hf://me/model@{commit}/sub"
    assert hub.recorded(tmp_path / "x") == str(tmp_path / "x")


def test_the_commit_stays_the_same_while_a_process_runs(hub_server):
    first = hub_server.add("me/model", FILES)
    hub.pinned("hf://me/model/sub")
    second = hub_server.add("me/model", {"config.json": b"{1}"})
    assert hub.pinned("hf://me/model") == f"hf://me/model@{first}"
    folder = hub.download("hf://me/model", everything, "x")
    assert (folder / "config.json").read_bytes() == b"{}"
    newer = hub.download(f"hf://me/model@{second[:8]}", everything, "x")
    assert (newer / "config.json").read_bytes() == b"{1}"


def test_without_a_network_the_cache_is_used(hub_server, monkeypatch):
    from huggingface_hub import constants

    hub_server.add("me/model", FILES)
    folder = hub.download("hf://me/model", everything, "x")
    hub_server.forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_server.requests.clear()
    assert hub.download("hf://me/model", everything, "x") == folder
    assert hub_server.requests == []
    with pytest.raises(UserError) as failure:
        hub.download("hf://me/other", everything, "x")
    assert "HF_HUB_OFFLINE" in one_line(failure)


def test_a_file_that_is_not_in_the_cache_is_missed_without_a_network(hub_server, monkeypatch):
    from huggingface_hub import constants

    hub_server.add("me/model", FILES)
    hub.download("hf://me/model", lambda names: ["config.json"], "x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as failure:
        hub.download("hf://me/model", everything, "x")
    assert "HF_HUB_OFFLINE" in one_line(failure)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me/nothing", "no such repository"),
        ("hf://me/secret", "hf auth login"),
        ("hf://me/model@v9", "no branch, tag or commit 'v9'"),
        ("hf://me/model/none", "the folders there are sub"),
        ("hf://me/gated", "ask for access at"),
    ],
)
def test_what_does_not_exist_or_is_closed_is_said_in_one_line(hub_server, address, message):
    hub_server.add("me/model", FILES)
    hub_server.add("me/gated", FILES, gated=True)
    hub_server.add("me/secret", FILES, private=True)
    with pytest.raises(UserError) as failure:
        hub.download(address, everything, "weights")
    text = one_line(failure)
    assert message in text and text.startswith(address)


def test_a_repository_without_the_wanted_files_is_described(hub_server):
    hub_server.add("me/model", FILES)
    with pytest.raises(UserError) as failure:
        hub.download("hf://me/model", lambda names: [], "tokenizer")
    assert "holds no tokenizer" in one_line(failure) and "config.json" in str(failure.value)


def test_a_hub_that_is_out_of_order_or_out_of_reach_is_said_in_one_line(hub_server):
    hub_server.add("me/model", FILES)
    hub_server.failing = 418
    with pytest.raises(UserError) as failure:
        hub.download("hf://me/model", everything, "x")
    assert "418" in one_line(failure)
    hub_server.close()
    hub_server.forget()
    with pytest.raises(UserError) as failure:
        hub.download("hf://me/model", everything, "x")
    assert "cannot be reached" in one_line(failure)


def test_a_full_disk_is_said_in_one_line(hub_server, monkeypatch):
    import huggingface_hub

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    hub_server.add("me/model", FILES)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(UserError) as failure:
        hub.download("hf://me/model", everything, "x")
    assert "No space left on device" in one_line(failure)


def test_an_error_of_the_library_itself_is_not_hidden(hub_server, monkeypatch):
    import huggingface_hub

    def broken(*_, **__):
        raise TypeError("a bug")

    hub_server.add("me/model", FILES)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(TypeError):
        hub.download("hf://me/model", everything, "x")


def push(tmp_path, files, address, **options) -> str:
    """Pushes files; safetensors are those of a model."""
    upload = folder_of(tmp_path, files)
    return hub.push(upload, address, belongs=lambda n: n.endswith(".safetensors"), **options)


def folder_of(tmp_path, files) -> hub.Upload:
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return hub.Upload(tmp_path, tuple(files))


CARD = {"README.md": b"---\nlicense: other\nlicense_name: x\n---\n# Model\n"}


def test_what_was_pushed_is_what_is_downloaded(hub_server, tmp_path):
    hub_server.log_in()
    files = CARD | {"model.safetensors": bytes(30_000), "sub/config.json": b"{}"}
    pushed = push(tmp_path, files, "hf://me/new", private=True)
    repository = hub_server.repositories["me/new"]
    assert repository.private and len(repository.commits) == 2  # the new one and one upload
    assert pushed == f"hf://me/new@{repository.branches['main']}"
    folder = hub.download(pushed, everything, "x")
    for name, data in files.items():
        assert (folder / name).read_bytes() == data


def test_a_branch_is_created_and_the_others_stay(hub_server, tmp_path):
    hub_server.log_in()
    before = hub_server.add("me/model", {"config.json": b"{}"})
    push(tmp_path, CARD, "hf://me/model@trial")
    repository = hub_server.repositories["me/model"]
    assert repository.branches["main"] == before != repository.branches["trial"]


def test_weights_that_would_be_mixed_with_those_there_are_refused(hub_server, tmp_path):
    hub_server.log_in()
    hub_server.add("me/model", {"model-00001-of-00002.safetensors": b"x"})
    with pytest.raises(UserError) as failure:
        push(tmp_path, CARD | {"model.safetensors": b"y"}, "hf://me/model")
    assert "model-00001-of-00002.safetensors" in one_line(failure)
    assert len(hub_server.repositories["me/model"].commits) == 1


@pytest.mark.parametrize(
    ("logged_in", "address", "message"),
    [
        (False, "hf://me/new", "hf auth login"),
        (True, "hf://stranger/new", "with a token that has the right"),
        (True, "hf://me/new/folder", "hf://OWNER/NAME[@BRANCH]"),
        (True, f"hf://me/new@{40 * '0'}", "hf://OWNER/NAME[@BRANCH]"),
    ],
)
def test_a_push_that_is_not_permitted_is_said_in_one_line(
    hub_server, tmp_path, logged_in, address, message
):
    if logged_in:
        hub_server.log_in()
    with pytest.raises(UserError) as failure:
        push(tmp_path, CARD, address)
    assert message in one_line(failure)
    assert not hub_server.repositories


def test_a_card_that_the_hub_refuses_is_said_before_anything_is_uploaded(hub_server, tmp_path):
    hub_server.log_in()
    card = {"README.md": b"---\nlicense: other\n---\n"}
    with pytest.raises(UserError) as failure:
        push(tmp_path, card | {"model.safetensors": bytes(30_000)}, "hf://me/new")
    assert "license_name" in one_line(failure)
    assert not hub_server.blobs


def test_an_upload_that_fails_commits_nothing_and_is_said_in_one_line(hub_server, tmp_path):
    hub_server.log_in()
    hub_server.refuse_uploads = True
    with pytest.raises(UserError) as failure:
        push(tmp_path, CARD | {"model.safetensors": bytes(30_000)}, "hf://me/new")
    assert "denies access (403)" in one_line(failure)
    (first,) = hub_server.repositories["me/new"].commits.values()
    assert set(first) == {".gitattributes"}


def test_no_other_module_uses_the_library_of_the_hub():
    package = Path(hub.__file__).parent
    users = [p.name for p in package.rglob("*.py") if "huggingface_hub" in p.read_text()]
    assert users == ["hub.py"]
