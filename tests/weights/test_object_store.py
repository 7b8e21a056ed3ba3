"""Models in object stores: which checkpoint, tensors by ranges, tokenizers."""

import json

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.files import write_text
from ditfuse_jax.paths import as_path
from ditfuse_jax.prompts.fingerprint import tokenizer_fingerprint
from ditfuse_jax.resources import resource
from ditfuse_jax.weights.run_paths import CHECKPOINTS, find_checkpoint, is_run, resolve_best
from ditfuse_jax.weights.tensors import open_tensors, write_safetensors

pytestmark = pytest.mark.processes  # the servers


def test_the_newest_and_the_best_checkpoint_are_among_the_complete_ones(gcs):
    run = as_path(f"{gcs.bucket()}/runs/x")
    for step in (2, 4):
        write_text(run / CHECKPOINTS / str(step) / "commit_success.txt", "")
    write_text(run / CHECKPOINTS / "6" / "parameters" / "manifest.ocdbt", "interrupted")
    values = {"metric": "eval/x", "direction": "higher", "values": {"2": 9.0, "4": 1.0, "6": 99.0}}
    write_text(run / "best.json", json.dumps(values))
    best = as_path(f"{run}@best")
    assert is_run(run) and is_run(best) and not is_run(run.parent)
    assert find_checkpoint(run) == (run, 4)
    assert find_checkpoint(best) == (run, 2)
    assert str(resolve_best(best)) == f"{run}/checkpoints/2"
    with pytest.raises(UserError, match="no checkpoint in gs://"):
        find_checkpoint(run / CHECKPOINTS / "6")


def test_a_tensor_is_read_by_one_request_for_its_rows(store, tmp_path):
    values = {
        name: np.arange(12, dtype=np.float32).reshape(4, 3) + i for i, name in enumerate("ab")
    }
    specs = {name: (x.dtype, x.shape) for name, x in values.items()}
    write_safetensors(tmp_path / "model.safetensors", specs, values.__getitem__, {"k": "v"})
    path = as_path(f"{store.bucket()}/model.safetensors")
    path.write_bytes((tmp_path / "model.safetensors").read_bytes())
    tensors = open_tensors(path)
    store.proxy.reset()
    np.testing.assert_array_equal(tensors.read("b", slice(1, 3)), values["b"][1:3])
    assert store.proxy.counts() == {"read": 1}
    assert tensors.metadata() == {"k": "v"}


def test_a_tokenizer_in_a_store_is_the_same_as_its_local_copy(store):
    folder, local = as_path(f"{store.bucket()}/tokenizer"), resource("prompts", "assets")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((local / name).read_bytes())
    assert tokenizer_fingerprint(folder) == tokenizer_fingerprint(local)
    with pytest.raises(UserError, match=f"no tokenizer in {folder.parent}/none"):
        tokenizer_fingerprint(folder.parent / "none")
