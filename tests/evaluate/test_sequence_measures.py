"""Flicker and warped differences of sequences whose truth is known."""

import json
import math

import cv2
import numpy as np
import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.evaluate.runner.evaluate_sequence import evaluate_sequence
from ditfuse_jax.evaluate.sequence_measures import SteadinessMeter, luma, static_pixels
from ditfuse_jax.images import write_image

SIZE = (96, 128)


def texture(seed=0):
    """A smooth picture with structure, float32 (H, 2 W, 3), 40 to 200."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(SIZE[0], 2 * SIZE[1])).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    grey = 120 + 80 * smooth / np.abs(smooth).max()
    return np.repeat(grey[..., None], 3, axis=2)


def view(picture, shift=0, noise=0.0, seed=0):
    """The picture from a place, with noise, uint8 (H, W, 3)."""
    seen = picture[:, shift : shift + SIZE[1]]
    added = np.random.default_rng(seed).normal(0, noise, SIZE)[..., None] if noise else 0
    return np.clip(np.rint(seen + added), 0, 255).astype(np.uint8)


def measure(frames):
    """`frames`: (sources, fused) of each."""
    meter = SteadinessMeter(2)
    for sources, fused in frames:
        meter.add(sources, fused)
    return meter.scores()


def test_flicker_is_the_deviation_of_the_noise_times_the_root_of_two():
    a, b = texture(0), texture(1)
    scores = measure(
        (
            [view(a, noise=2, seed=k), view(b, noise=4, seed=100 + k)],
            {"fused": view(a, noise=6, seed=200 + k), "still": view(a)},
        )
        for k in range(5)
    )
    assert scores.frames == 5 and scores.static > 0.97
    found = [*scores.sources, scores.fused["fused"], scores.fused["still"]]
    expected = [math.sqrt(2) * sigma for sigma in (2, 4, 6, 0)]
    np.testing.assert_allclose([one.flicker for one in found], expected, rtol=0.03)
    assert scores.ratios("fused")["flicker"] == pytest.approx(2, rel=0.03)
    assert scores.fused["fused"].pumping < 0.2 and scores.fused["still"].pumping == 0


def test_pumping_is_the_change_of_the_whole_image():
    a, b = texture(0), texture(1)
    scores = measure(
        (
            [view(a), view(b)],
            {"fused": view(a + 3 * (k % 2)), "deep": view(a + k).astype("u2") * 257},
        )
        for k in range(6)
    )
    assert scores.fused["fused"].pumping == pytest.approx(3, abs=0.02)
    assert scores.fused["deep"].pumping == pytest.approx(1, abs=0.02)
    assert math.isnan(scores.ratios("fused")["pumping"])  # the sources do not change at all
    assert math.isnan(scores.fused["fused"].warped) and scores.moving == 0


def test_a_moving_thing_is_not_static():
    a, b = texture(0), texture(1)

    def scene(k):
        sources = [view(a), view(b)]
        for image in sources:
            image[30:60, 10 + 6 * k : 40 + 6 * k] = 250
        return sources, {"fused": sources[0]}

    scores = measure(scene(k) for k in range(4))
    assert 0.7 < scores.static < 0.95
    assert scores.fused["fused"].flicker < 0.6


def test_a_fusion_that_moves_with_its_sources_has_their_warped_difference():
    a, b = texture(0), texture(1)
    rng = np.random.default_rng(0)
    scores = measure(
        (
            [view(a, 3 * k), view(a, 3 * k)],
            {
                "with them": view(a, 3 * k),
                "standing": view(b),
                "noisy": np.clip(view(a, 3 * k) + rng.normal(0, 8, (*SIZE, 1)), 0, 255).astype(
                    "u1"
                ),
            },
        )
        for k in range(4)
    )
    assert scores.moving > 0.8 and scores.static < 0.1
    assert scores.ratios("with them")["warped"] == pytest.approx(1)
    warped = {name: one.warped for name, one in scores.fused.items()}
    assert warped["with them"] < 1 < 5 < warped["noisy"] < warped["standing"]


def test_static_pixels_of_known_changes():
    change = np.zeros((64, 64), np.float32)
    change[20:40, 20:40] = 9
    quiet = np.random.default_rng(0).normal(0, 3, (64, 64)).astype(np.float32)
    static = static_pixels([change, quiet])
    assert not static[22:38, 22:38].any() and static[:10].mean() > 0.97
    assert luma(np.full((1, 1, 3), 65535, np.uint16))[0, 0] == pytest.approx(255)


def test_frames_of_another_size_and_single_frames_are_refused():
    meter = SteadinessMeter(2)
    a = view(texture())
    meter.add([a, a], {"fused": a})
    with pytest.raises(UserError, match="1 frames: a sequence has at least two"):
        meter.scores()
    with pytest.raises(UserError, match="frame 1: fused is 128x95, not 128x96"):
        meter.add([a, a], {"fused": a[1:]})


@pytest.fixture
def folders(tmp_path):
    a, b = texture(0), texture(1)
    for name in ("vis", "ir", "fused"):
        (tmp_path / name).mkdir()
    for k in range(3):
        counts = 7000 + 5 * view(b, noise=2, seed=50 + k)[..., 0].astype(np.uint16)
        cv2.imwrite(str(tmp_path / "ir" / f"{k}.png"), counts)
        write_image(tmp_path / "vis" / f"{k}.png", view(a, noise=2, seed=k))
        write_image(tmp_path / "fused" / f"{k}.png", view(a, noise=2, seed=k))
    return tmp_path


def test_the_command_measures_folders_and_writes_json(folders, capsys):
    words = ["--a", "vis", "--b", "ir", "--fused", "fused", "--json", "new/x.json"]
    words = [word if word.startswith("--") else str(folders / word) for word in words]
    assert main(["evaluate", "--sequence", *words]) == 0
    found = json.loads((folders / "new" / "x.json").read_text())
    table = capsys.readouterr().out
    assert "source 2: ir" in table and "3 frames" in table and "frames/s" not in table
    assert set(found["methods"]) == {"fused", "mean"} and found["frames"] == 3
    assert found["methods"]["mean"]["ratio"]["flicker"] < 1
    assert found["frames_per_second"] is None
    vis = found["sources"][str(folders / "vis")]["flicker"]
    assert found["methods"]["fused"]["flicker"] == pytest.approx(vis)


def test_the_sources_may_be_paired_by_time(folders):
    paths = [folders / name for name in ("vis", "ir", "fused")]
    words = ["--a", paths[0], "--b", paths[1], "--fused", paths[2], "--fps", "10"]
    assert main(["evaluate", "--sequence", *map(str, words), "--pairing", "time"]) == 0
    assert main(["evaluate", *map(str, words)]) == 2


def test_what_does_not_fit_is_refused(folders, capsys):
    vis, ir, fused = (folders / name for name in ("vis", "ir", "fused"))
    (fused / "2.png").unlink()
    with pytest.raises(UserError, match=r"\(mine\) has 2 frames, the sources 3"):
        evaluate_sequence([vis, ir], {"mine": fused})
    for words, line in (
        (["--a", vis, "--b", ir], "--sequence needs the sources"),
        (
            ["--a", vis, "--b", ir, "--fused", fused, "--steps", "3"],
            "no effect without --checkpoint",
        ),
        (["--a", vis, "--b", ir, "--fused", fused, "--metrics", "EN"], "no effect with --sequence"),
        (["--a", vis, "--b", ir, "--fused", fused, "--regions"], "no effect with --sequence"),
        (["--a", vis, "--b", ir, "--fused", fused, "--fps", "nan"], "--fps nan: give frames"),
        (["--a", vis, "--b", ir, "--fused", fused, "--pairing", "time"], "give --fps"),
    ):
        assert main(["evaluate", "--sequence", *map(str, words)]) == 2
        assert line in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(folders, monkeypatch):
    monkeypatch.setattr("ditfuse_jax.evaluate.runner.evaluate_sequence.open_sources", None)
    with pytest.raises(UserError, match="is a folder: name a file"):
        evaluate_sequence([folders / "vis", folders / "ir"], json_file=folders)


@pytest.mark.medium
def test_a_model_is_fused_with_and_timed(tmp_path):
    paths = [tmp_path / "vis", tmp_path / "ir"]
    for path in paths:
        path.mkdir()
        for k in range(2):
            write_image(path / f"{k}.png", view(texture(), noise=2, seed=k)[:32, :48])
    found = evaluate_sequence(paths, checkpoint="small", sampling={"steps": 1, "tile": 0})
    assert found.frames_per_second > 0 and found.scores.fused["fused"].flicker > 0
