"""tensorflow-datasets prepares and reads every data set without TensorFlow, equal to the files."""

import importlib.util
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import open_source
from ditfuse_jax.pipeline.datasets import DATASETS

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")


@pytest.fixture(scope="module")
def builders(tfds):
    """The module `data/tfds_builders.py`."""
    tfds.disable_progress_bar()
    spec = importlib.util.spec_from_file_location("builders", ROOT / "data" / "tfds_builders.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["builders"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def prepare(builders, monkeypatch, tmp_path):
    """Prepares a tiny archive into `tmp_path / "tfds"`."""

    def run(archive, **options):
        name = archive.dataset.name
        monkeypatch.setattr(builders.BUILDERS[name], "dataset", archive.dataset)
        return builders.prepare(name, archive.folder, tmp_path / "tfds", **options)

    return run


@pytest.mark.parametrize("name", DATASETS)
def test_prepared_examples_hold_the_files(make_archive, prepare, name, tmp_path):
    archive = make_archive(name)
    prepare(archive)
    for split in archive.splits:
        roles = ",".join(archive.files[split])
        files = open_source(archive.source(split, roles))
        prepared = open_source(
            archive.source(split, roles, place=tmp_path / "tfds").replace("dataset:", "tfds:")
        )
        assert list(prepared.names) == list(files.names)
        assert prepared.num_images == files.num_images
        for k in range(len(files)):
            assert prepared.size(k) == files.size(k)
            for one, other in zip(prepared[k], files[k], strict=True):
                np.testing.assert_array_equal(one, other)


def test_files_are_not_encoded_anew_and_tfds_reads_them_itself(
    tfds, make_archive, prepare, tmp_path
):
    archive = make_archive("fmb")
    prepare(archive)
    records = tfds.data_source("fmb", split="test", data_dir=tmp_path / "tfds")
    for k, record in enumerate(records):
        assert record["name"] == f"{k + 1:05}".encode()
        for role, paths in archive.files["test"].items():
            assert record["images"][role] == paths[k].read_bytes()


def test_a_prepared_source_travels_to_workers(make_archive, prepare, tmp_path):
    prepare(make_archive("llvip"))
    source = open_source(f"tfds:llvip:test@{tmp_path / 'tfds'}")
    again = pickle.loads(pickle.dumps(source))
    assert list(again.names) == list(source.names) == ["000001", "000002", "000003"]
    assert source.names[:2] == ["000001", "000002"]
    np.testing.assert_array_equal(again[2], source[2])
    with pytest.raises(IndexError):
        source[3]


def test_an_incomplete_data_set_is_prepared_only_on_request(make_archive, prepare, tmp_path):
    archive = make_archive("m3fd")
    archive.files["detection"]["infrared"][1].unlink()
    for paths in archive.files["fusion"].values():
        paths[0].parent.rename(paths[0].parent.with_name("gone-" + paths[0].parent.name))
    with pytest.raises(UserError, match="no infrared image for 00002"):
        prepare(archive)
    prepare(archive, partial=True)
    place = tmp_path / "tfds"
    assert list(open_source(f"tfds:m3fd:partial@{place}").names) == ["00001", "00003"]
    with pytest.raises(UserError, match="holds detection, no fusion; prepare it"):
        open_source(f"tfds:m3fd:partial:fusion@{place}")
    command = (
        rf"no data set m3fd is prepared.*: python {ROOT / 'data/tfds_builders.py'} m3fd MANUAL"
    )
    with pytest.raises(UserError, match=command):
        open_source(f"tfds:m3fd@{place}")


@pytest.mark.parametrize("damage", ["size", "bytes"])
def test_damaged_files_are_an_error_or_left_out_if_partial(
    make_archive, prepare, tmp_path, damage, caplog
):
    archive = make_archive("roadscene")
    odd = archive.files["full"]["infrared"][1]
    if damage == "size":
        write_image(odd.with_suffix(".png"), np.zeros((5, 8, 3), np.uint8))
        odd.with_suffix(".png").replace(odd)
    else:
        odd.write_bytes(odd.read_bytes()[:50])
    with pytest.raises(UserError, match=str(odd)):
        prepare(archive)
    with caplog.at_level(logging.WARNING):
        prepare(archive, partial=True)
    assert str(odd) in caplog.text
    prepared = open_source(f"tfds:roadscene:partial@{tmp_path / 'tfds'}")
    assert list(prepared.names) == ["FLIR_00001", "FLIR_00003"]


def test_a_missing_extra_is_an_error_when_it_is_read(make_archive, prepare, tmp_path):
    archive = make_archive("mfi_whu", 1)
    prepare(archive)
    place = tmp_path / "tfds"
    assert len(open_source(f"tfds:mfi_whu@{place}")[0]) == 2
    with pytest.raises(UserError, match="mfi_whu MFI-WHU_01 sharp: missing in the prepared"):
        open_source(f"tfds:mfi_whu:a,sharp@{place}")[0]


def test_archives_in_tensorflow_datasets_own_folder_are_found(
    tfds, builders, make_archive, monkeypatch, tmp_path
):
    archive = make_archive("msrs")
    monkeypatch.setattr(builders.BUILDERS["msrs"], "dataset", archive.dataset)
    manual = tmp_path / "tfds" / "downloads" / "manual" / "msrs"
    manual.mkdir(parents=True)
    archive.zipped(manual / "MSRS-main.zip")
    builder = tfds.builder("msrs", data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    assert builder.info.splits["train"].num_examples == 3


@pytest.mark.processes
def test_neither_preparing_nor_reading_needs_tensorflow(tfds, tmp_path):
    for folder in ("vi", "ir"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "1.png", np.zeros((4, 5, 3), np.uint8))
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['x', 'tno', {str(tmp_path)!r}, '--data-dir', {str(tmp_path / 'tfds')!r}]\n"
        "runpy.run_path('data/tfds_builders.py', run_name='__main__')\n"
        "from ditfuse_jax.pipeline import open_source\n"
        f"assert len(open_source('tfds:tno@' + {str(tmp_path / 'tfds')!r})[0]) == 2\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "full 1 examples: " in done.stdout


def test_bad_input_to_the_program_ends_with_one_line(builders, monkeypatch, capsys, tmp_path):
    for name, place, problem in (
        ("nosuch", tmp_path, "data set 'nosuch' is unknown"),
        ("msrs", tmp_path / "none", "none: no such folder; to get it: clone"),
    ):
        monkeypatch.setattr(sys, "argv", ["x", name, str(place)])
        with pytest.raises(SystemExit) as stopped:
            builders.main()
        assert stopped.value.code == 2
        assert problem in capsys.readouterr().err


def test_without_tensorflow_datasets_the_error_says_what_to_install(monkeypatch):
    from ditfuse_jax.pipeline import tfds_source

    tfds_source._tfds.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"need tensorflow-datasets .*dataset:NAME@PLACE"):
        open_source("tfds:msrs")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("lytro", "mff/lytro_dev"), ("tno", "ivif/tno_dev"), ("harvard_pet", "medical/pet-mri_dev")],
)
def test_real_copies_are_prepared_and_read(builders, tmp_path, name, folder):
    place = SHARED / folder
    if not place.is_dir():
        pytest.skip(f"../shared/data/{folder} is absent")
    builders.prepare(name, place, tmp_path)
    files, prepared = open_source(f"dataset:{name}@{place}"), open_source(f"tfds:{name}@{tmp_path}")
    assert list(prepared.names) == list(files.names)
    for one, other in zip(prepared[len(files) - 1], files[len(files) - 1], strict=True):
        np.testing.assert_array_equal(one, other)
