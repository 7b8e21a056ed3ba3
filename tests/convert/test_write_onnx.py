"""Models as ONNX graphs: the example without JAX fuses as this package does."""

import dataclasses
import importlib.util
import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.convert.convert import convert
from ditfuse_jax.convert.without_empty_arrays import without_empty_arrays
from ditfuse_jax.convert.write_onnx import write_onnx
from ditfuse_jax.errors import UserError
from ditfuse_jax.sample.noise import standard_normal
from ditfuse_jax.sample.stack_fuser import FusionInput, StackFuser
from ditfuse_jax.sample.trained import load_trained
from ditfuse_jax.weights import open_checkpoint

pytestmark = pytest.mark.medium


def test_operations_on_empty_arrays_are_left_out():
    @jax.jit
    def inner(x):
        return jnp.pad(x, ((0, 0), (1, 1)), mode="edge")

    def function(x):
        return jnp.concatenate([x[:, :0], jnp.pad(inner(x), ((0, 0), (0, 2)), mode="edge")], axis=1)

    def empty_results(function):
        equations = jax.make_jaxpr(function)(x).jaxpr.eqns
        return [v for equation in equations for v in equation.outvars if 0 in v.aval.shape]

    x = jnp.array([[3.0], [5.0]])
    simpler = without_empty_arrays(function, [jax.ShapeDtypeStruct(x.shape, x.dtype)])
    np.testing.assert_array_equal(simpler(x), function(x))
    assert empty_results(function) and not empty_results(simpler)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"solver": "heun"}, "the solver 'heun': use sample.solver='euler'"),
        ({"guidance_scale": 2.0}, "guidance with several branches"),
        ({"tile": 0, "global_steps": 0}, "no tiles"),
    ],
)
def test_settings_that_the_graph_cannot_have_are_refused_by_name(tmp_path, changes, reason):
    small = open_checkpoint("small")
    sampling = dataclasses.replace(small.sampling, **changes)
    with pytest.raises(UserError, match=reason):
        write_onnx(dataclasses.replace(small, sampling=sampling), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"head": "linear", "prediction": "velocity"}, "the prediction 'velocity'"),
        ({"latent_downsampling": 8, "head": "linear", "conv_stem": False}, "an autoencoder"),
    ],
)
def test_models_that_the_graph_cannot_hold_are_refused_by_name(tmp_path, changes, reason):
    small = open_checkpoint("small")
    model = dataclasses.replace(small.model, **changes)
    with pytest.raises(UserError, match=reason):
        write_onnx(dataclasses.replace(small, model=model), tmp_path / "out")


@pytest.mark.parametrize("refine", [True, False])
def test_settings_that_are_left_out_are_told_and_recorded(tmp_path, monkeypatch, capsys, refine):
    """With stand-ins for the libraries that write the graph."""
    places = [SimpleNamespace(name=name) for name in "abcde"]
    graph = SimpleNamespace(input=places, output=[SimpleNamespace(name="f")], node=[], value=[])
    graph = SimpleNamespace(graph=graph)
    onnx = SimpleNamespace(
        checker=SimpleNamespace(check_model=lambda graph: None), save=lambda graph, path: None
    )
    to_onnx = SimpleNamespace(to_onnx=lambda *_, **__: graph)
    monkeypatch.setitem(sys.modules, "jax2onnx", to_onnx)
    module = "ditfuse_jax.convert.write_onnx"
    monkeypatch.setattr(f"{module}.import_optional", lambda *_: onnx)
    monkeypatch.setattr(f"{module}.without_empty_arrays", lambda function, types: function)
    small = open_checkpoint("small")
    sampling = dataclasses.replace(small.sampling, refine=refine)
    write_onnx(dataclasses.replace(small, sampling=sampling), tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "settings.json").read_text(encoding="utf-8"))
    assert settings["left_out"] == ["refine"] * refine
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["left out: refine"] * refine


@pytest.mark.slow
def test_the_example_without_jax_fuses_as_this_package_within_one_grey_level(tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    folder = convert("small", tmp_path / "onnx", to="onnx")
    assert {"LICENSE", "example.py", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    spec = importlib.util.spec_from_file_location("onnx_example", folder / "example.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    trained = load_trained("small")  # refinements are left out of the example
    unrefined = dataclasses.replace(trained.sampling, refine=False)
    theirs, ours = example.Fuser(), StackFuser(trained, unrefined)
    prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(0)
    for task, size in (("mff", (160, 160)), ("ivif", (181, 330)), ("light+", (352, 320))):
        coarse = rng.integers(0, 256, (2, size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
        a, b = (x.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]] for x in coarse)
        canvas = ours.canvas(*size).padded
        noise = np.asarray(standard_normal(ours.sampling.seed, (*canvas, 3)))
        expected = ours.fuse([FusionInput([a, b], prompts[task]["prompt"])])[0]
        found = theirs(a, b, task, noise=noise)
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
