"""`ditfuse serve`: a real process, real requests."""

import base64
import concurrent.futures
import importlib.util
import io
import re
import signal
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import Fuser
from ditfuse_jax.cli import main
from ditfuse_jax.images import decode_image, encode_image

_spec = importlib.util.spec_from_file_location(
    "malformed", Path(__file__).with_name("malformed.py")
)
assert _spec is not None and _spec.loader is not None
malformed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(malformed)
malformed_requests = malformed.malformed_requests

pytestmark = [pytest.mark.medium, pytest.mark.processes]


@pytest.fixture(scope="module")
def fuser():
    return Fuser.load("small", steps=1)


def pair(files, **fields):
    return [("image", files[0]), ("image", files[1]), *fields.items()]


def image_of(answer):
    assert answer.status == 200, answer.body
    return decode_image(base64.b64decode(answer.json["data"][0]["b64_json"]), "answer")


class TestFuse:
    """`/v1/fuse`."""

    def test_the_image_is_that_of_the_call(self, server, files, images, fuser):
        words = "Make it a little brighter."
        answer = server.post("/v1/fuse", pair(files, prompt=words, task="ivif", seed="3"))
        fused = fuser(*images, words, task="ivif", seed=3)
        np.testing.assert_array_equal(image_of(answer), fused.image)
        assert (answer.json["understood"], answer.json["notes"]) == ("brightness +1", "")
        assert answer.json["size"] == "64x48"
        assert answer.json["settings"]["seed"] == 3

    def test_a_file_is_the_saved_one_with_its_metadata(self, server, files, images, fuser):
        parts = pair(files, adjust="brightness=+1", response_format="file")
        answer = server.post("/v1/fuse", parts)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-ditfuse-understood"] == "brightness%20%2B1"
        assert answer.body == fuser(*images, adjust="brightness=+1").encode()

    @pytest.mark.parametrize(("name", "start"), [("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
    def test_other_formats_can_be_asked_for(self, server, files, name, start):
        parts = pair(files, output_format=name, response_format="file")
        answer = server.post("/v1/fuse", parts)
        assert answer.headers["content-type"] == f"image/{name}"
        assert answer.body.startswith(start)

    def test_a_mask_limits_the_request(self, server, files, images, fuser):
        mask = np.zeros((48, 64, 3), np.uint8)
        mask[10:30, 20:50] = 255
        parts = [*pair(files, adjust="brightness=+2"), ("mask", encode_image(mask, "x.png"))]
        fused = fuser(*images, adjust="brightness=+2", region=mask[..., 0])
        np.testing.assert_array_equal(image_of(server.post("/v1/fuse", parts)), fused.image)

    def test_sixteen_bits_come_back_with_sixteen(self, server, images):
        deep = [encode_image(image.astype(np.uint16) * 257, "x.png") for image in images]
        answer = server.post("/v1/fuse", pair(deep, response_format="file"))
        assert answer.body[24] == 16  # bit depth of a PNG


class TestEdits:
    """`/v1/images/edits`, in OpenAI's form."""

    def test_several_images_and_a_prompt_give_one_image_of_their_size(
        self, server, files, images, fuser
    ):
        parts = [("image[]", data) for data in files]
        parts += [("prompt", "Make it much darker."), ("model", "small"), ("n", "1")]
        parts += [("size", "64x48"), ("response_format", "b64_json")]
        parts += [("quality", "high"), ("user", "me"), ("background", "opaque")]
        answer = server.post("/v1/images/edits", parts)
        expected = fuser(*images, "Make it much darker.").image
        np.testing.assert_array_equal(image_of(answer), expected)
        assert abs(answer.json["created"] - time.time()) < 60

    def test_the_prompt_applies_where_the_mask_is_transparent(self, server, files, images, fuser):
        alpha = np.full((48, 64), 255, np.uint8)
        alpha[:, 40:] = 0
        stream = io.BytesIO()
        Image.fromarray(np.dstack([images[0], alpha])).save(stream, "PNG")
        words = "Make it much brighter."
        parts = [*pair(files, prompt=words), ("mask", stream.getvalue())]
        fused = image_of(server.post("/v1/images/edits", parts)).astype(int)
        plain = fuser(*images).image
        np.testing.assert_array_equal(fused[:, :40], plain[:, :40])
        assert (fused[:, 50:] - plain[:, 50:]).mean() > 10

    @pytest.mark.parametrize(
        ("field", "value", "part"),
        [
            ("size", "32x32", "size must be auto or that of the images, 64x48"),
            ("size", "big", "size must be auto or WIDTHxHEIGHT"),
            ("n", "2", "n must be 1"),
            ("stream", "true", "stream is not supported"),
            ("background", "transparent", "background transparent is not supported"),
            ("steps", "3", "field 'steps' is unknown here"),
            ("response_format", "url", "choose from b64_json, file"),
        ],
    )
    def test_what_it_cannot_do_is_explained(self, server, files, field, value, part):
        answer = server.post("/v1/images/edits", pair(files, prompt="Join.", **{field: value}))
        assert answer.status == 400 and part in answer.message
        assert answer.json["error"]["type"] == "invalid_request_error"


def huge_png() -> bytes:
    """A PNG whose header promises 10 gigapixels, followed by little."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    coded = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(coded)


class TestBadRequests:
    """Status 400 with one line."""

    @pytest.mark.parametrize(
        ("second", "part"),
        [
            (b"", "image 2: is empty"),
            (b"no image", "image 2: is not an image of a supported format"),
            (b"GIF89a" + bytes(100), "image 2: is not an image"),
            (huge_png(), "image 2: 100000x100000 pixels exceed the limit of 0.1 megapixels"),
        ],
        ids=["empty", "text", "gif", "huge"],
    )
    def test_a_file_that_is_no_image_is_named_by_its_place(self, server, files, second, part):
        answer = server.post("/v1/fuse", pair([files[0], second]))
        assert answer.status == 400 and part in answer.message and "\n" not in answer.message

    def test_a_truncated_file_is_refused(self, server, files):
        answer = server.post("/v1/fuse", pair([files[0], files[1][:-300]]))
        assert answer.status == 400 and "image 2: is damaged or truncated" in answer.message

    def test_images_of_unequal_size_are_refused_with_both(self, server, files, images):
        other = encode_image(images[1][:40], "x.png")
        answer = server.post("/v1/fuse", pair([files[0], other]))
        assert answer.status == 400 and "64x48 but image 2 is 64x40" in answer.message

    @pytest.mark.parametrize(("count", "part"), [(0, "0 images"), (1, "1 images"), (5, "5 images")])
    def test_too_few_and_too_many_images_are_refused(self, server, files, count, part):
        answer = server.post("/v1/fuse", [("image", files[0])] * count)
        assert answer.status == 400 and part in answer.message

    @pytest.mark.parametrize(
        ("field", "value", "part"),
        [
            ("colour", "red", "field 'colour' is unknown"),
            ("steps", "many", "steps must be a whole number"),
            ("steps", "0", "steps must be at least 1"),
            ("steps", "201", "steps must be at most 200 on this server"),
            ("batch_size", "2", "batch_size is a setting of the server"),
            ("tile", "0", "tile must be between 1 and 160 on this server"),
            ("guidance_interval", "1", "guidance_interval must be 2 numbers"),
            ("guidance_scale", "nan", "guidance_scale must be a finite number"),
            ("adjust", "warmth=+1", "unknown name 'warmth'"),
            ("task", "paint", "standard task 'paint' is unknown"),
            ("depth", "12", "depth must be 8 or 16"),
            ("resize", "yes", "resize must be true or false"),
            ("prompt", "a" * 2001, "the prompt has 2001 characters"),
            ("region", "/etc/hostname", "region '/etc/hostname' is unknown: choose from sky"),
            ("align", "/etc/hostname", "align '/etc/hostname' is unknown: choose from auto"),
            ("image", "/etc/hostname", "image and mask must be files"),
        ],
    )
    def test_a_bad_field_is_explained(self, server, files, field, value, part):
        answer = server.post("/v1/fuse", pair(files, **{field: value}))
        assert answer.status == 400 and part in answer.message and "\n" not in answer.message

    def test_other_bodies_methods_and_paths_are_refused(self, server):
        kind = {"Content-Type": "application/json"}
        assert server.send("POST", "/v1/fuse", b"{}", kind).status == 400
        assert server.send("POST", "/v1/fuse", b"").status == 400
        assert server.get("/v1/fuse").status == 405
        assert server.get("/../../etc/passwd").status == 404

    def test_no_file_of_a_client_is_written_anywhere(self, server, files):
        assert server.post("/v1/fuse", pair(files)).status == 200
        folder = Path(f"/proc/{server.process.pid}/cwd").resolve()
        assert not (folder / "image.png").exists() and not (folder.parent / "image.png").exists()
        opened = [path.readlink() for path in Path(f"/proc/{server.process.pid}/fd").iterdir()]
        assert not [path for path in opened if "image" in path.name and path.suffix == ".png"]


class TestLimits:
    """Bytes, queue, time, steps."""

    def test_too_long_a_body_is_refused_before_it_is_read(self, server):
        head = b"POST /v1/fuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
        assert b" 413 " in server.raw(head)

    def test_a_body_without_a_length_is_read_up_to_the_limit(self, server):
        def parts():
            yield b"--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n"
            for _ in range(80):
                yield bytes(65536)

        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        try:
            assert server.send("POST", "/v1/fuse", parts(), kind).status == 413
        except OSError:  # the answer came while this was sending
            assert server.counted('ditfuse_requests_total{route="/v1/fuse",status="413"}') >= 1
        assert server.get("/healthz").status == 200

    @pytest.mark.slow
    def test_a_full_queue_answers_429_with_a_time_to_wait(self, start, images):
        large = [encode_image(np.tile(image, (8, 8, 1)), "x.png") for image in images]
        with start("--queue", "2") as server, concurrent.futures.ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(server.post, "/v1/fuse", pair(large)) for _ in range(6)]
            answers = [future.result() for future in asked]
            refused = [answer for answer in answers if answer.status == 429]
            assert {answer.status for answer in answers} == {200, 429}
            assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
            assert server.counted("ditfuse_queue") == 0
            assert server.post("/v1/fuse", pair(large)).status == 200

    @pytest.mark.slow
    def test_a_request_that_takes_too_long_gets_504_and_the_next_one_works(self, start, images):
        large = [encode_image(np.tile(image, (10, 10, 1)), "x.png") for image in images]
        with start("--timeout", "6") as server:
            server.post("/v1/fuse", pair([encode_image(image, "x.png") for image in images]))
            answer = server.post("/v1/fuse", pair(large, steps="200"))
            assert answer.status == 504 and "more than 6 seconds" in answer.message
            assert server.get("/healthz").status == 200
            assert server.counted("ditfuse_queue") == 0


class TestKey:
    """`DITFUSE_API_KEY` and the address."""

    def test_without_the_key_only_the_health_is_told(self, start, files):
        with start(DITFUSE_API_KEY="a secret") as server:
            assert server.get("/healthz").status == 200
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a secret"}):
                answer = server.post("/v1/fuse", pair(files), **headers)
                assert answer.status == 401 and "Authorization: Bearer KEY" in answer.message
            assert server.get("/metrics").status == server.get("/v1/models").status == 401
            key = {"Authorization": "Bearer a secret"}
            assert server.post("/v1/fuse", pair(files), **key).status == 200
            assert server.get("/v1/models", **key).json["data"][0]["id"] == "small"

    def test_an_address_for_others_needs_a_key(self, capsys, monkeypatch):
        monkeypatch.delenv("DITFUSE_API_KEY", raising=False)
        assert main(["serve", "--host", "0.0.0.0"]) == 2
        assert "set a key in DITFUSE_API_KEY" in capsys.readouterr().err

    def test_a_port_in_use_is_one_line(self, server, capsys):
        assert main(["serve", "--port", str(server.port)]) == 2
        assert f"cannot listen at 127.0.0.1:{server.port}" in capsys.readouterr().err

    def test_a_web_page_under_another_name_is_refused(self, server):
        assert server.get("/healthz", Host="evil.example:80").status == 421
        assert server.get("/healthz", Host=f"localhost:{server.port}").status == 200

    def test_a_form_of_a_foreign_web_page_is_refused(self, server, files):
        answer = server.post("/v1/fuse", pair(files), Origin="https://evil.example")
        assert answer.status == 403 and "web pages of other servers" in answer.message


def test_metrics_count_requests_by_route_and_status(server, files):
    name = 'ditfuse_requests_total{route="/v1/fuse",status="200"}'
    before = server.counted(name)
    assert server.post("/v1/fuse", pair(files)).status == 200
    assert server.counted(name) == before + 1
    assert server.counted("ditfuse_batch_seconds_count") >= 1


@pytest.mark.slow
def test_it_warms_up_batches_without_tiles(start, files):
    with start("--tile", "0", "--batch-size", "3", warm_up=True) as server:
        assert server.post("/v1/fuse", pair(files)).status == 200


@pytest.mark.slow
def test_requests_of_one_size_are_fused_in_batches(start, files, images, fuser):
    with (
        start("--batch-size", "4") as server,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        seeds = [str(k % 2) for k in range(12)]
        asked = [pool.submit(server.post, "/v1/fuse", pair(files, seed=seed)) for seed in seeds]
        answers = [future.result() for future in asked]
        batches = server.counted("ditfuse_batch_images_count")
        assert server.counted("ditfuse_batch_images_sum") == 12 and batches < 12
    expected = [fuser(*images, seed=seed).image.astype(int) for seed in (0, 1)]
    for seed, answer in zip(seeds, answers, strict=True):
        assert abs(image_of(answer) - expected[int(seed)]).max() <= 1


def memory(process) -> float:
    """Resident memory, MiB."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found
    return int(found[1]) / 1024


@pytest.mark.slow
def test_hundreds_of_malformed_bodies_break_nothing(server, files, form_of):
    statuses, sizes = set(), []
    requests = malformed_requests(400, form_of(pair(files, prompt="Join.")), seed=0)
    for number, request in enumerate(requests):
        statuses.add(server.raw(request)[:12].decode("latin-1"))
        if number in (199, 399):  # the first ones fill caches and the allocator
            sizes.append(memory(server.process))
    assert statuses <= {"", *(f"HTTP/1.1 {code}" for code in (200, 400, 404, 405, 413, 429))}
    assert server.counted('ditfuse_requests_total{route="/v1/fuse",status="500"}') == 0
    assert sizes[1] - sizes[0] < 40
    while server.counted("ditfuse_queue"):  # places of clients that have gone become free
        time.sleep(0.1)
    assert server.post("/v1/fuse", pair(files)).status == 200
    assert server.process.poll() is None


@pytest.mark.slow
def test_a_killed_server_starts_again_at_its_port(start, files):
    with start() as server, concurrent.futures.ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(server.post, "/v1/fuse", pair(files, steps="50")) for _ in range(3)]
        time.sleep(0.5)
        server.stop(signal.SIGKILL)
        assert all(future.exception() for future in asked)
        with start(port=server.port) as again:
            assert again.port == server.port
            assert again.post("/v1/fuse", pair(files)).status == 200


@pytest.mark.slow
def test_a_stopped_server_answers_what_it_has_begun(start, images):
    large = [encode_image(np.tile(image, (8, 8, 1)), "x.png") for image in images]
    with start() as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.post, "/v1/fuse", pair(large, steps="3"))
        while not server.counted("ditfuse_queue"):
            time.sleep(0.05)
        assert server.stop() == 0
        assert asked.result().status == 200
