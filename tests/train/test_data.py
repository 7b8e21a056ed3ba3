"""Training on images of many shapes, with damaged files, on a changing number of hosts."""

import json

import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.images import write_image
from ditfuse_jax.pipeline import sources
from ditfuse_jax.pipeline.bad_records import BAD_RECORDS, read_bad_records
from ditfuse_jax.train import resolve, train

pytestmark = pytest.mark.medium

SHAPES = "--config.data.buckets=((32, 32), (32, 48))"


@pytest.fixture
def photos(tmp_path):
    """Eight noise images, half of them wide."""
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        size = (40, 68, 3) if i % 2 else (50, 50, 3)
        write_image(tmp_path / f"photos/{i}.png", rng.integers(0, 256, size, dtype=np.uint8))
    return f"--config.data.mixture.photos.source={tmp_path / 'photos'}"


@pytest.mark.slow
def test_a_run_in_buckets_continues_to_the_bit(tiny, photos, losses, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = tiny(photos, SHAPES, "--config.train.steps=5")
    batches = resolve(config).data.batches()
    shapes = {next(batches)["target"].shape for _ in range(5)}
    assert len(shapes) == 2
    train(config, whole, evaluations=(), quiet=True)
    train(tiny(photos, SHAPES, "--config.train.steps=2"), parts, evaluations=(), quiet=True)
    train(config, parts, evaluations=(), quiet=True)
    assert losses(whole) == losses(parts)
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert all(r["tflops_per_device"] > 0 for r in records if "tflops_per_device" in r)


def test_a_run_opens_each_source_once(tiny, photos, monkeypatch, tmp_path):
    opened = []

    def open_source(name):
        opened.append(name)
        return sources.open_source(name)

    monkeypatch.setattr("ditfuse_jax.pipeline.loader.open_source", open_source)
    train(tiny(photos, "--config.train.steps=1"), tmp_path / "run", evaluations=(), quiet=True)
    assert opened == [str(tmp_path / "photos")]


def test_a_damaged_file_is_skipped_reported_and_counted(overrides, photos, tmp_path, capsys):
    (tmp_path / "photos/3.png").write_bytes(b"not an image")
    run = tmp_path / "run"
    tolerant = "--config.data.max_bad_fraction=0.2"
    arguments = overrides(photos, tolerant, "--config.train.steps=3", "--config.sample.steps=2")
    command = ["train", "--config", "nano_m3", "--workdir", str(run)]
    assert main([*command, *arguments]) == 0
    assert "1 bad records skipped so far" in capsys.readouterr().err
    (bad,) = read_bad_records(run)
    assert bad["record"] == "3"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(r.get("bad_records", 0) for r in records) == 1
    assert (run / BAD_RECORDS).exists()


def test_too_many_damaged_files_end_the_run_with_one_line(overrides, photos, tmp_path, capsys):
    (tmp_path / "photos/3.png").write_bytes(b"not an image")
    arguments = overrides(photos, "--config.train.steps=3")
    assert (
        main(["train", "--config", "nano_m3", "--workdir", str(tmp_path / "run"), *arguments]) == 2
    )
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "1 of 8 records of" in message and "data.max_bad_fraction 1.00%" in message


@pytest.mark.processes
@pytest.mark.slow
def test_hosts_may_come_and_go_between_restarts(photos, start_group, tiny, losses, tmp_path):
    """Two processes, then one, then four have the losses of a single process."""
    elastic, whole = tmp_path / "elastic", tmp_path / "whole"
    for last, hosts in ((2, 2), (4, 1), (6, 4)):
        for process in start_group(elastic, hosts, photos, SHAPES, f"--config.train.steps={last}"):
            assert process.wait(timeout=240) == 0, process.stderr.read()[-3000:]
    train(tiny(photos, SHAPES, "--config.train.steps=6"), whole, evaluations=(), quiet=True)
    found, expected = losses(elastic), losses(whole)
    assert sorted(found) == list(range(1, 7))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)
