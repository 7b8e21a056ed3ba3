"""Training adapters: what is frozen, what is saved, and the same numbers on a mesh."""

import json

import jax
import numpy as np
import pytest

from ditfuse_jax.convert.convert import convert
from ditfuse_jax.errors import UserError
from ditfuse_jax.model.lora import combine_trees
from ditfuse_jax.model.network import init_parameters
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.train import load_recipe, train
from ditfuse_jax.weights import open_omnigen
from ditfuse_jax.weights.omnigen import parameters_from_original

pytestmark = pytest.mark.medium

TRAIN = """
import json, sys
from ditfuse_jax.train import load_recipe, train
recipe, folders, *arguments = sys.argv[1:]
for folder in json.loads(folders):
    train(load_recipe(recipe, arguments), folder, evaluations=(), quiet=True)
"""

TINY = (
    "--config.data.crop=(32, 32)",
    "--config.data.batch_size=4",
    "--config.data.workers=0",
    "--config.model.dtype=float32",
    "--config.model.remat=none",
    "--config.lora.rank=2",
    "--config.optimizer.learning_rate=0.01",
    "--config.optimizer.warmup_steps=1",
    "--config.train.accumulation=1",
    "--config.train.log_every=1",
    "--config.train.steps=4",
)


@pytest.fixture(scope="module")
def weights(omnigen_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "omnigen"
    omnigen_folder.write(folder, hidden=32, layers=2, heads=4, kv_heads=2, mlp=48, positions=8)
    return folder


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["", "int8"])
def test_one_device_and_eight_give_the_same_losses_and_share_checkpoints(
    run_code, weights, losses, tmp_path, quantize
):
    """The fifth step of the mesh's run is made on one device."""
    one, eight = str(tmp_path / "one"), str(tmp_path / "eight")
    mesh = ["--config.mesh.data=2", "--config.mesh.fsdp=2", "--config.mesh.tensor=2"]
    for folders, arguments, environment in (
        ([eight], mesh, {"JAX_NUM_CPU_DEVICES": "8"}),
        ([one, eight], ["--config.train.steps=5"], {}),
    ):
        arguments = [*TINY, f"--config.lora.quantize={quantize}", *arguments]
        arguments = [f"omnigen_lora:{weights}", json.dumps(folders), *arguments]
        done = run_code(TRAIN, *arguments, environment=environment)
        assert done.returncode == 0, done.stderr[-3000:]
    found, expected = losses(tmp_path / "eight"), losses(tmp_path / "one")
    assert list(found) == list(expected) == list(range(1, 6))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)
    assert expected[5] != expected[1]


@pytest.fixture
def losses_here(weights, losses):
    """The same in this process."""

    def run(folder, *arguments, recipe="omnigen_lora") -> list[float]:
        train(
            load_recipe(f"{recipe}:{weights}", [*TINY, *arguments]),
            folder,
            evaluations=(),
            quiet=True,
        )
        return list(losses(folder).values())

    return run


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_losses(losses_here, tmp_path):
    whole = losses_here(tmp_path / "whole", recipe="omnigen_lora_paper")
    losses_here(tmp_path / "parts", "--config.train.steps=2", recipe="omnigen_lora_paper")
    assert losses_here(tmp_path / "parts", recipe="omnigen_lora_paper") == whole


class TestInProcess:
    """A run's parts, looked at from inside."""

    @pytest.fixture(scope="class")
    def context(self, weights, tmp_path_factory):
        seen = []
        config = load_recipe(f"omnigen_lora:{weights}", [*TINY, "--config.train.steps=2"])
        folder = tmp_path_factory.mktemp("run") / "x"
        train(config, folder, callbacks=[seen.append], evaluations=())
        return seen[-1]

    def test_the_optimiser_holds_moments_of_the_adapters_only(self, context):
        names = {
            path[-1].key
            for path, x in jax.tree_util.tree_leaves_with_path(context.state.optimizer)
            if x.ndim
        }
        assert names == {"lora_a", "lora_b"}

    def test_the_weights_under_them_did_not_move(self, context, weights):
        opened = open_omnigen(weights)
        before = parameters_from_original(opened.tensors, opened.config)
        jax.tree.map(np.testing.assert_array_equal, before, context.frozen.base)

    def test_both_factors_moved(self, context):
        fresh = context.recipe.network
        start = jax.jit(lambda key: init_parameters(fresh, key))(jax.random.key(0))
        moved = jax.tree.map(
            lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
            start,
            context.state.parameters,
        )
        assert all(jax.tree.leaves(moved))


class TestOverQuantisedWeights:
    """QLoRA: the weights under the adapters in 4 bits."""

    @pytest.fixture(scope="class")
    def run(self, weights, tmp_path_factory):
        folder = tmp_path_factory.mktemp("run") / "x"
        seen = []
        options = (*TINY, "--config.lora.quantize=nf4", "--config.train.steps=3")
        config = load_recipe(f"omnigen_lora:{weights}", options)
        train(config, folder, callbacks=[seen.append], evaluations=(), quiet=True)
        return folder, seen[-1]

    def test_only_their_codes_are_in_memory(self, run):
        names = {
            path[-1].key: leaf.dtype
            for path, leaf in jax.tree_util.tree_leaves_with_path(run[1].frozen.base)
            if path[0].key == "transformer"
        }
        assert set(names) == {"codes", "scales", "scale"}
        assert names["codes"] == np.uint8

    def test_both_factors_move_and_the_losses_are_near_those_over_plain_weights(
        self, run, losses, losses_here, tmp_path
    ):
        plain = losses_here(tmp_path / "plain", "--config.train.steps=3")
        quantised = list(losses(run[0]).values())
        assert quantised != plain
        np.testing.assert_allclose(quantised, plain, rtol=0.05)

    def test_a_model_loaded_from_the_run_has_the_weights_of_training(self, run):
        folder, context = run
        trained = load_trained(folder)
        assert trained.quantized == "nf4"
        expected = combine_trees(context.frozen.base, context.state.parameters)
        assert jax.tree.structure(trained.parameters) == jax.tree.structure(expected)
        jax.tree.map(np.testing.assert_array_equal, trained.parameters, expected)

    @pytest.fixture(scope="class")
    def stored(self, weights, tmp_path_factory):
        folder = tmp_path_factory.mktemp("stored") / "nf4"
        return convert(weights, folder, quantize="nf4", quiet=True)

    def test_weights_that_were_stored_quantised_give_the_same_losses_and_the_same_model(
        self, run, stored, losses, tmp_path
    ):
        options = [*TINY, "--config.train.steps=3"]
        config = load_recipe(f"omnigen_lora:{stored}", [*options, "--config.lora.quantize=nf4"])
        train(config, tmp_path / "x", evaluations=(), quiet=True)
        assert losses(tmp_path / "x") == losses(run[0])
        assert_same(load_trained(tmp_path / "x"), load_trained(run[0]))
        with pytest.raises(UserError, match=r"nf4.*quantise the original weights as int8"):
            load_trained(tmp_path / "x", quantize="int8")
        config = load_recipe(f"omnigen_lora:{stored}", options)
        with pytest.raises(UserError, match=r"stay frozen.*--config.lora.quantize=nf4"):
            train(config, tmp_path / "y", evaluations=(), quiet=True)

    def test_adapters_are_used_around_weights_that_were_stored_quantised_wherever_they_come_from(
        self, run, weights, stored, tmp_path
    ):
        assert_same(load_trained(run[0], base=stored), load_trained(run[0]))
        peft = convert(run[0], tmp_path / "peft", to="peft", quiet=True)
        plain = convert(peft, tmp_path / "plain", base=weights, quiet=True)
        assert load_trained(plain).quantized is None
        written = convert(peft, tmp_path / "written", base=stored, quiet=True)
        assert json.loads((written / "config.json").read_text())["lora"]["quantize"] == "nf4"
        assert load_trained(written).quantized == "nf4"
        assert_same(load_trained(plain, base=stored), load_trained(written))


def assert_same(one, other):
    assert one.quantized == other.quantized
    assert jax.tree.structure(one.parameters) == jax.tree.structure(other.parameters)
    jax.tree.map(np.testing.assert_array_equal, one.parameters, other.parameters)


@pytest.mark.slow
def test_all_weights_train_from_others_too(losses_here, tmp_path):
    """Without adapters the weights are the first state: the loss is that of the adapted at rest."""
    adapted = losses_here(tmp_path / "lora")
    whole = losses_here(tmp_path / "full", "--config.lora.rank=0")
    assert whole[0] == pytest.approx(adapted[0], rel=1e-5)
    assert whole[1:] != adapted[1:]
    assert (tmp_path / "full" / "checkpoints" / "4" / "parameters").is_dir()


@pytest.mark.slow
def test_a_training_from_the_hub_records_the_commit_and_continues_with_it_only(
    hub_server, weights, tmp_path
):
    files = {
        path.relative_to(weights).as_posix(): path.read_bytes()
        for path in weights.rglob("*")
        if path.is_file()
    }
    commit = hub_server.add("lab/OmniGen", files)
    run = tmp_path / "run"

    def start(recipe: str, steps: int) -> None:
        overrides = [*TINY, f"--config.train.steps={steps}"]
        train(load_recipe(recipe, overrides), run, evaluations=(), quiet=True)

    start("omnigen_lora:hf://lab/OmniGen", 1)
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["weights"] == f"hf://lab/OmniGen@{commit}"
    assert recorded["autoencoder"] == f"hf://lab/OmniGen@{commit}/vae"
    # The branch moves, and another process starts.
    hub_server.add("lab/OmniGen", {"LICENSE": b"new"})
    hub_server.forget()
    with pytest.raises(UserError, match=f"adapts hf://lab/OmniGen@{commit}, which is now"):
        start("omnigen_lora:hf://lab/OmniGen", 2)
    start(f"omnigen_lora:hf://lab/OmniGen@{commit}", 2)
    assert (run / "checkpoints" / "2").is_dir()
