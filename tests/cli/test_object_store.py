"""Commands read from and write to object stores, and refuse what they cannot reach."""

import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image
from ditfuse_jax.paths import as_path
from ditfuse_jax.storage import retries
from ditfuse_jax.weights import open_checkpoint

pytestmark = [pytest.mark.processes, pytest.mark.medium]  # the servers


@pytest.fixture
def no_local_folder(tmp_path, monkeypatch):
    """Runs the test in a folder that must stay empty: `gs:` is no local folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("no_local_folder")
def test_a_model_is_converted_to_a_store_and_used_from_there(store, pair, checkpoint, tmp_path):
    bucket = store.bucket()
    convert = ["convert", str(checkpoint), "-o", f"{bucket}/bundle", "--to", "bundle"]
    assert main(convert) == 0
    fuse = ["fuse", *map(str, pair), "--task", "mff", "--steps", "1"]
    local, remote = tmp_path / "local.png", f"{bucket}/out/remote.png"
    assert main([*fuse, "--checkpoint", str(checkpoint), "-o", str(local)]) == 0
    assert main([*fuse, "--checkpoint", f"{bucket}/bundle", "-o", remote]) == 0
    assert (read_image(as_path(remote)) == read_image(local)).all()
    assert main(convert) == 2  # the output exists


@pytest.mark.usefixtures("no_local_folder")
@pytest.mark.slow
def test_a_run_is_converted_to_a_bucket_and_back(gcs, checkpoint, tmp_path):
    bucket = gcs.bucket()
    for source, output in (
        (str(checkpoint), f"{bucket}/bundle"),
        (f"{bucket}/bundle", f"{bucket}/run"),
        (f"{bucket}/run", str(tmp_path / "back")),
    ):
        to = "run" if output.endswith("run") else "bundle"
        assert main(["convert", source, "-o", output, "--to", to]) == 0
    before, after = open_checkpoint(checkpoint), open_checkpoint(tmp_path / "back")
    for path in before.shapes():
        assert (before.read_leaf(path) == after.read_leaf(path)).all()


@pytest.mark.usefixtures("no_local_folder")
def test_an_evaluation_is_written_to_a_store_and_continued_from_there(store, stacks, tmp_path):
    bucket = as_path(store.bucket())
    for side in ("image1", "image2"):
        for image in (stacks / side).iterdir():
            (bucket / "data" / side / image.name).write_bytes(image.read_bytes())
    command = ["evaluate", "--a", str(stacks / "image1"), "--b", str(stacks / "image2")]
    command += ["--fused", f"Mine={bucket}/data/image1", "--metrics", "EN", "SD"]
    command += ["-o", f"{bucket}/report", "--csv", f"{bucket}/tables/scores.csv"]
    assert main(command) == 0
    report = (bucket / "report" / "report.json").read_text()
    assert '"EN"' in report
    assert (bucket / "tables" / "scores.csv").is_file()
    store.proxy.reset()
    assert main(command) == 0
    written = [r.url for r in store.proxy.requests if r.kind == "write"]
    assert not [url for url in written if "/scores/" in url]


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--config", "nano_m3", "--workdir"],
        ["sweep", "block_size", "--dry-run", "--workdir"],
        ["fuse", "a.png", "b.png", "-o"],
        ["fuse", "a.png", "b.png", "-o", "x.png", "--checkpoint"],
        ["evaluate", "--checkpoint", "small", "-o"],
        ["convert", "small", "-o"],
        ["convert", "-o", "x", "--base"],
    ],
)
@pytest.mark.usefixtures("no_local_folder")
def test_other_schemes_are_refused_by_name_before_anything_is_made(command, refused):
    message = refused(*command, "az://container/x")
    assert message.startswith("az://container/x: az: is not supported: give a local path")
    assert "gs:// or s3://" in message


@pytest.mark.usefixtures("no_local_folder")
def test_a_training_to_s3_is_refused_with_what_to_do(s3, refused):
    run = f"{s3.bucket()}/run"
    for command in (
        ["train", "--config", "nano_m3", "--workdir", run],
        ["sweep", "block_size", "--workdir", run],
    ):
        message = refused(*command)
        assert "orbax neither writes nor reads checkpoints on s3://" in message
        assert "mount the bucket" in message
    assert [r.kind for r in s3.proxy.requests if r.kind == "write"] == []


@pytest.mark.parametrize(
    "status, text, told",
    [
        (404, "The specified bucket does not exist.", "there is no bucket 'no-such-bucket'"),
        (403, "no storage.objects.create access", "no storage.objects.create access"),
        (401, "Anonymous caller does not have access", "Anonymous caller does not have access"),
    ],
)
@pytest.mark.usefixtures("no_local_folder")
def test_a_training_without_bucket_permission_or_credentials_ends_before_compiling(
    gcs, status, text, told, refused, tiny_overrides
):
    gcs.proxy.fail_for(600, status, text=text)
    run = "gs://no-such-bucket/run"
    message = refused("train", "--config", "nano_m3", "--workdir", run, *tiny_overrides)
    assert told in message and run in message
    assert "check the bucket's name, your credentials and their permissions" in message


@pytest.mark.usefixtures("no_local_folder")
def test_a_store_that_stays_away_ends_a_job_at_once_and_is_no_bad_input(
    gcs, stacks, checkpoint, monkeypatch, capsys
):
    monkeypatch.setattr(retries, "RETRY_SECONDS", 0.5)
    bucket = as_path(gcs.bucket())
    for side in ("image1", "image2"):
        for image in (stacks / side).iterdir():
            (bucket / side / image.name).write_bytes(image.read_bytes())
    asked = []

    def decide(request):
        if request.kind == "read" and "image1" in request.url:
            asked.append(request.url.partition("image1")[2])
            return 503, b"busy"
        return None

    gcs.proxy.decide = decide
    fuse = ["fuse", f"{bucket}/image1", f"{bucket}/image2", "--checkpoint", str(checkpoint)]
    assert main([*fuse, "-o", f"{bucket}/out"]) == 75
    assert "the store failed for" in capsys.readouterr().err.splitlines()[-1]
    assert len(set(asked)) == 1  # the other stacks were not tried
