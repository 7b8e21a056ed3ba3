"""The Python call: the pixels of the command, all kinds of images, batches and streams."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import ditfuse_jax
from ditfuse_jax import Fused, Fuser, UserError
from ditfuse_jax.cli import main
from ditfuse_jax.images import read_image, read_metadata, write_image
from ditfuse_jax.sample.stack_fuser import StackFuser

pytestmark = pytest.mark.medium

FAST = {"steps": 1}


@pytest.fixture(scope="module")
def fuser():
    return Fuser.load("small", **FAST)


@pytest.fixture(scope="module")
def images():
    """Two images of 48 x 64 pixels with some structure."""
    rows, columns = np.indices((48, 64))
    first = 127 + 60 * np.sin(columns / 5) + 40 * np.cos(rows / 4)
    second = 127 + 60 * np.sin((rows + columns) / 7)
    colours = np.array([1.0, 0.9, 0.8])
    return [(x[..., None] * colours).clip(0, 255).astype(np.uint8) for x in (first, second)]


@pytest.fixture
def files(images, tmp_path):
    paths = [tmp_path / name for name in ("vis.png", "ir.png")]
    for path, image in zip(paths, images, strict=True):
        write_image(path, image)
    return paths


def by_command(files, tmp_path, *options):
    path = tmp_path / "by command.png"
    words = [*files, "-o", path, "--steps", 1, *options]
    assert main(["fuse", *map(str, words)]) == 0
    return path


def test_a_call_gives_the_file_of_the_command_byte_for_byte(fuser, files, tmp_path):
    words = "Make it a little brighter."
    path = by_command(files, tmp_path, "--prompt", words, "--task", "ivif", "--seed", 3)
    fused = fuser(*files, words, task="ivif", seed=3)
    assert fused.understood == "brightness +1"
    assert fused.save(tmp_path / "fused.png").read_bytes() == path.read_bytes()


def test_adjustments_give_the_pixels_of_the_command(fuser, images, files, tmp_path):
    path = by_command(files, tmp_path, "--adjust", "brightness=+1")
    for adjust in ({"brightness": 1}, ["brightness=+1"], "brightness=+1"):
        fused = fuser(*images, adjust=adjust)
        np.testing.assert_array_equal(fused.image, read_image(path))
    assert (fuser(*images).image != fused.image).any()


def test_a_region_gives_the_pixels_of_the_command(fuser, images, files, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:50] = 255
    write_image(tmp_path / "mask.png", np.repeat(mask[..., None], 3, axis=2))
    words = ("--adjust", "brightness=+2", "--region", tmp_path / "mask.png")
    expected = read_image(by_command(files, tmp_path, *words))
    regions = (mask, mask > 0, tmp_path / "mask.png", str(tmp_path / "mask.png"))
    for region in (*regions, Image.fromarray(mask), Image.open(tmp_path / "mask.png")):
        fused = fuser(*images, adjust="brightness=+2", region=region)
        np.testing.assert_array_equal(fused.image, expected)
    outside = mask == 0
    np.testing.assert_array_equal(fused.image[outside], fuser(*images).image[outside])


def test_sixteen_bit_files_give_the_pixels_of_the_command(fuser, images, files, tmp_path):
    for path, image in zip(files, images, strict=True):
        write_image(path, image.astype(np.uint16) * 257)
    path = by_command(files, tmp_path)
    fused = fuser(*files)
    assert fused.image.dtype == np.uint16
    assert fused.save(tmp_path / "fused.png").read_bytes() == path.read_bytes()
    assert read_image(fused.save(tmp_path / "fused.jpg")).shape == (48, 64, 3)


def test_paths_arrays_and_images_of_pillow_give_the_same(fuser, images, files):
    import jax.numpy as jnp

    expected = fuser(*images).image
    for given in (
        files,
        list(map(str, files)),
        [Image.fromarray(image) for image in images],
        [jnp.asarray(image) for image in images],
        [files[0], Image.fromarray(images[1])],
    ):
        np.testing.assert_array_equal(fuser(*given).image, expected)
    floats = fuser(*(image / 255 for image in images))
    assert floats.image.dtype == np.uint16
    np.testing.assert_allclose(floats.to_float(), expected / 255, atol=0.004)


def test_settings_of_a_call_hold_for_this_call_only(fuser, images):
    before, other = fuser(*images), fuser(*images, steps=2, seed=5)
    assert (other.settings["steps"], other.settings["seed"]) == (2, 5)
    assert before.settings["steps"] == fuser(*images).settings["steps"] == 1
    np.testing.assert_array_equal(fuser(*images).image, before.image)


def test_equal_settings_share_a_sampler_and_few_are_kept(images):
    fuser = Fuser.load("small", **FAST)
    assert fuser.sampler(seed=1) is fuser.sampler(seed=1)
    first = fuser.sampler(seed=1)
    for seed in range(2, 40):
        fuser.sampler(seed=seed)
    assert len(fuser._samplers) < 30 and fuser.sampler(seed=1) is not first


def test_a_batch_gives_one_image_for_each_stack(fuser, images):
    small = [image[:32, :32] for image in images]
    stacks = [images, small, images]
    fused = fuser.batch(stacks, [None, None, "Make it brighter."], batch_size=2)
    assert [f.image.shape for f in fused] == [(48, 64, 3), (32, 32, 3), (48, 64, 3)]
    assert [f.understood for f in fused] == [None, None, "brightness +1"]
    alone = fuser(*images).image.astype(int)
    assert abs(fused[0].image - alone).max() <= 1
    assert fuser.batch([]) == []
    with pytest.raises(UserError, match="2 prompts for 3 stacks"):
        fuser.batch(stacks, ["a", "b"])


def test_a_stream_is_fused_frame_by_frame_in_order(fuser, images):
    taken = []

    def frames():
        for k in range(5):
            taken.append(k)
            yield [np.roll(image, k, axis=1) for image in images]

    stream = fuser.stream(frames(), batch_size=2, smoothing=0)
    assert taken == []
    first = next(stream)
    assert taken == [0, 1]
    rest = list(stream)
    expected = [fuser(*(np.roll(x, k, axis=1) for x in images)).image for k in range(5)]
    for fused, image in zip([first, *rest], expected, strict=True):
        assert abs(fused.image.astype(int) - image).max() <= 1


def test_frames_in_one_buffer_are_fused_each_for_itself(fuser, images):
    frames = [images, [255 - image for image in images]]
    buffer = [np.empty_like(image) for image in images]

    def source():
        for frame in frames:
            for place, image in zip(buffer, frame, strict=True):
                place[:] = image
            yield buffer

    fused = list(fuser.stream(source(), batch_size=2, smoothing=0))
    expected = fuser.batch(frames, batch_size=2)
    for one, other in zip(fused, expected, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_stream_gives_the_frames_of_the_command(fuser, images, tmp_path):
    """Keys and values are reused and static regions smoothed, by the same settings."""
    pytest.importorskip("av")
    from ditfuse_jax.images.video import read_frames

    rng = np.random.default_rng(0)
    frames = []
    for k in range(3):
        noisy = [np.clip(x + rng.normal(0, 2, x.shape), 0, 255).astype(np.uint8) for x in images]
        for name, image in zip(("vis", "ir"), noisy, strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(tmp_path / name / f"{k}.png", image)
        frames.append(noisy)
    video = tmp_path / "fused.mkv"  # lossless with 16 bits
    words = ["--fps", "25", "--steps", "1", "--depth", "16", "-o", str(video)]
    assert main(["fuse", str(tmp_path / "vis"), str(tmp_path / "ir"), *words]) == 0
    streamed = [fused.image for fused in fuser.stream(frames, depth=16)]
    for image, frame in zip(streamed, read_frames(video), strict=True):
        np.testing.assert_array_equal(image, frame.samples.values)
    alone = [fuser(*frame, depth=16).image for frame in frames]
    assert np.abs(streamed[2].astype(int) - alone[2]).max() > 257


def test_all_frames_of_a_stream_are_aligned_by_the_warp_of_the_first(fuser):
    rng = np.random.default_rng(0)
    texture = rng.random((40, 56), np.float32)
    texture = np.kron(texture, np.ones((5, 5), np.float32))
    scene = np.repeat(np.uint8(255 * texture)[..., None], 3, axis=2)
    first, flat = scene[8:168, 8:248], np.full((160, 240, 3), 90, np.uint8)
    pair = (np.ascontiguousarray(first), np.ascontiguousarray(scene[8:168, 14:254]))
    fused = list(fuser.stream([pair, (flat, flat), pair], align="translation"))
    assert len({one.image.shape for one in fused}) == 1
    assert len({one.metadata["alignment"] for one in fused}) == 1
    with pytest.raises(UserError, match="could be aligned"):
        next(fuser.stream([(flat, flat)], align="auto"))


def test_stacks_prepared_with_other_settings_are_not_mixed(fuser, images):
    prepared = [fuser.prepare(images, steps=1), fuser.prepare(images, steps=3)]
    with pytest.raises(UserError, match="were prepared with other settings"):
        fuser.run(prepared)


def test_frames_of_another_size_begin_a_stream_anew(fuser, images):
    smaller = [image[:40, :56] for image in images]
    fused = list(fuser.stream([images, images, smaller, images]))
    assert [one.image.shape[:2] for one in fused] == [(48, 64), (48, 64), (40, 56), (48, 64)]
    np.testing.assert_array_equal(fused[3].image, fused[0].image)


def test_prepared_stacks_are_fused_with_settings_that_nobody_repeats(images):
    fuser = Fuser.load("small", steps=2, tile=0)
    prepared = [fuser.prepare(images), fuser.prepare(images, "much brighter")]
    plain, brighter = fuser.run(prepared)
    assert brighter.image.mean() > plain.image.mean()
    assert plain.settings == fuser.sampling.to_dict()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 2), (3, 4)])
def test_batches_have_a_power_of_two_rows_whatever_the_model_says(images, monkeypatch, count, rows):
    fuser = Fuser.load("small", **FAST, batch_size=8)
    prepared = [fuser.prepare(images)] * count
    seen = []
    whole = StackFuser.fuse_iter

    def spy(self, inputs):
        seen.append(self.sampling.batch_size)
        return whole(self, inputs)

    monkeypatch.setattr(StackFuser, "fuse_iter", spy)
    assert len(fuser.run(prepared)) == count and seen == [rows]
    assert fuser.run([]) == []


def test_the_range_of_a_stream_is_that_of_its_first_frame(fuser):
    rng = np.random.default_rng(0)
    frame = rng.normal(7500, 40, (32, 32)).astype(np.uint16)
    hot = (frame + 200).astype(np.uint16)
    first, second = fuser.stream([(frame, frame), (hot, hot)])
    assert first.metadata["range of image 1"] == second.metadata["range of image 1"]
    assert second.sources[0].mean() > 1.5 * first.sources[0].mean()
    assert abs(fuser(hot, hot).sources[0].mean() - first.sources[0].mean()) < 1500


def test_a_fused_image_shows_itself_in_a_notebook(fuser, images):
    fused = fuser(*images, "Make it a little brighter.")
    assert fused._repr_png_().startswith(b"\x89PNG")
    page = dataclasses.replace(fused, left_out="<b>")._repr_html_()
    assert page.count("<img") == 3
    assert "understood: brightness +1" in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert repr(fused) == "Fused(64x48, uint8, understood: brightness +1)"
    assert fused.pil().size == (64, 48)


def test_encoded_bytes_are_those_of_the_file(fuser, images, tmp_path):
    fused = fuser(*images)
    for suffix in (".png", ".jpg", ".tif"):
        assert fused.encode(suffix) == fused.save(tmp_path / f"x{suffix}").read_bytes()
    assert read_metadata(tmp_path / "x.png") == fused.metadata


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda f, a, b: f(a), "1 images: give two to four"),
        (lambda f, a, b: f(a, "brighter"), "'brighter' was taken as the sentence"),
        (lambda f, a, b: f(a, b[:40]), "image 1 is 64x48 but image 2 is 64x40"),
        (lambda f, a, b: f(a, b, "one", prompt="two"), "two sentences"),
        (lambda f, a, b: f(a, b, promt="x"), "setting 'promt' is unknown"),
        (lambda f, a, b: f(a, b, steps=0), "steps must be at least 1"),
        (lambda f, a, b: f(a, b, adjust={"warmth": 1}), "unknown name 'warmth'"),
        (lambda f, a, b: f(a, b, depth=12), "depth must be 8 or 16"),
        (lambda f, a, b: f(a, b, feather=3), "give region too"),
        (lambda f, a, b: f(a, b, "Brighter.", region=a), "the region is an array of uint8"),
        (lambda f, a, b: f(a, b, "Brighter.", region=a[:9, :, 0]), "the region is 64x9, but"),
        (lambda f, a, b: f(a, b, task="paint"), "standard task 'paint' is unknown"),
        (lambda f, a, b: f.batch([(a, b), (a,)]), "stack 2, 1 images"),
        (lambda f, a, b: list(f.stream([(a, b), (a, a / 9)])), "frame 2, image 2: float values"),
        (lambda f, a, b: list(f.stream([(a, b), (a, b, a)])), "frame 2 has 3 images, the first"),
        (lambda f, a, b: f.stream([(a, b)], reuse=0), "reuse counts frames, from 1, not 0"),
        (lambda f, a, b: f.stream([(a, b)], reuse=1.5), "reuse must be a whole number of frames"),
        (lambda f, a, b: f.stream([(a, b)], smoothing="x"), "smoothing must be a number, not 'x'"),
        (lambda f, a, b: f(a, b, prompt=5), "prompt must be a text, not 5"),
        (lambda f, a, b: f(a, b, "caf\udce9"), r"prompt 'caf\\udce9' is not UTF-8"),
        (lambda f, a, b: f(a, b, task=None), "task must be a text, not None"),
        (lambda f, a, b: f(a, b, resize="no"), "resize must be True or False, not 'no'"),
        (lambda f, a, b: f(a, b, align=np.eye(3)), "align must be a model's name or a calib"),
        (lambda f, a, b: f(a, b, value_range=5), "value_range must be auto, another name, two"),
        (lambda f, a, b: f(a, b, adjust=1), "adjust must be pairs such as"),
        (lambda f, a, b: f(a, b, "Brighter.", region=a, feather="3"), "feather must be a number"),
        (lambda f, a, b: f(a, b, "Brighter.", region=""), "an empty path: name a file or folder"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(fuser, images, call, part):
    with pytest.raises(UserError, match=part) as raised:
        call(fuser, *images)
    assert "\n" not in str(raised.value)


def test_what_the_package_offers_is_a_short_list():
    assert ditfuse_jax.__all__ == ["Fused", "Fuser", "UserError", "__version__"]
    assert all(getattr(ditfuse_jax, name) for name in ditfuse_jax.__all__)
    assert Fused.__module__ == "ditfuse_jax.sample.fused"
    with pytest.raises(AttributeError, match="no attribute 'Fuzer'"):
        _ = ditfuse_jax.Fuzer  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.processes
def test_importing_the_package_imports_no_other_library():
    code = "import sys; old = set(sys.modules); import ditfuse_jax; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert tops <= {"ditfuse_jax", *sys.stdlib_module_names}


def test_how_images_were_read_is_told_and_recorded(fuser, images, tmp_path):
    first, second = images
    clear = Image.fromarray(np.dstack([first, np.full(first.shape[:2], 200, np.uint8)]))
    clear.save(tmp_path / "clear.png")
    Image.fromarray(second).save(tmp_path / "b.png")
    told = "image 1: its transparent parts are put over black"
    for image in (clear, tmp_path / "clear.png", str(tmp_path / "clear.png")):
        fused = fuser(image, second)
        assert fused.notes == fused.metadata["notes"] == told and told in fused._repr_html_()
    assert fuser(first, second).notes == "" and "notes" not in fuser(first, second).metadata
    words = ["fuse", tmp_path / "clear.png", tmp_path / "b.png", "-o", tmp_path / "x.png"]
    assert main([*map(str, words), "--checkpoint", "small"]) == 0
    assert read_metadata(tmp_path / "x.png")["notes"] == told


def test_a_range_that_has_no_effect_is_told(fuser, images, files, tmp_path, capsys):
    told = "the range that was given has no effect: no image has more than 8 bits per channel"
    assert fuser(*images, value_range=(3, 7)).notes == told
    deep = images[0].astype(np.uint16) * 257
    eight, sixteen = fuser.batch([images, (deep, images[1])], value_range="full")
    assert (eight.notes, sixteen.notes) == (told, "")
    by_command(files, tmp_path, "--range", "3,7")
    assert f"warning: {told}\n" in capsys.readouterr().err
    by_command(files, tmp_path)
    assert "has no effect" not in capsys.readouterr().err
