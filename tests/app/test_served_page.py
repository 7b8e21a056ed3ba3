"""`ditfuse serve --page`: requests of programs and visitors of the page at one address."""

import http.client
import signal
import urllib.parse

import numpy as np
import pytest

from ditfuse_jax.images import decode_image, read_image

pytest.importorskip("gradio")

pytestmark = [pytest.mark.slow, pytest.mark.processes]
KEY = "open sesame"


def request(address, method, path, body=b"", **headers):
    """Sends a request; returns status, headers and body."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=120)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def fuse_form(files, prompt):
    """Body and headers of a form of `/v1/fuse` that is answered with a file."""
    parts = [(b'image"; filename="x.png', path.read_bytes()) for path in files]
    parts += [(b"prompt", prompt.encode()), (b"response_format", b"file")]
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part for part in parts
    )
    return body + b"--xyz--\r\n", {"Content_Type": "multipart/form-data; boundary=xyz"}


@pytest.fixture(scope="module")
def served(start, temporary):
    options = ("--page", "--no-warm-up", "--max-megapixels", "0.1", "--max-megabytes", "1")
    with start(temporary, *options, command="serve") as (_, address):
        yield address


@pytest.fixture
def address(served):
    return served


def test_the_page_and_a_request_give_the_same_image_with_the_same_model(
    opened, files, served, tmp_path
):
    page = opened()
    page.upload(*files)
    page.say("a little brighter")
    assert "understood: brightness +1" in page.fuse()
    shown = read_image(page.download(tmp_path))
    body, headers = fuse_form(files, "a little brighter")
    status, _, data = request(served, "POST", "/v1/fuse", body, **headers)
    assert status == 200
    np.testing.assert_array_equal(decode_image(data, "answer"), shown)
    counted = request(served, "GET", "/metrics")[2].decode()
    assert "ditfuse_batch_images_count 2.0" in counted
    assert not page.errors
    elsewhere = [url for url in page.requests if not url.startswith((served, "data:", "blob:"))]
    assert not elsewhere


def test_unknown_routes_of_programs_are_refused_as_programs_expect(served):
    status, headers, _ = request(served, "GET", "/v1/nothing")
    assert status == 404 and headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/", "/gradio_api/upload", "/v1/fuse", "/metrics"])
def test_foreign_names_and_foreign_pages_are_refused_everywhere(served, path):
    assert request(served, "GET", path, Host="evil.example")[0] == 421
    assert request(served, "POST", path, Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/v1/fuse"])
def test_the_limit_of_a_body_holds_everywhere(served, path):
    assert request(served, "POST", path, b"x" * (1 << 20) + b"x")[0] == 413


def test_the_limit_of_pixels_holds_on_the_page(opened, files, tmp_path):
    from ditfuse_jax.images import write_image

    write_image(tmp_path / "large.png", np.zeros((400, 400, 3), np.uint8))
    page = opened()
    page.upload(files[0], tmp_path / "large.png")
    assert "large.png: 400x400 pixels exceed the limit" in page.fuse()


def test_the_key_is_asked_of_programs_and_of_visitors(
    start, browser, visit, files, tmp_path_factory
):
    temporary = tmp_path_factory.mktemp("with a key")
    options = ("--page", "--no-warm-up")
    with start(temporary, *options, command="serve", DITFUSE_API_KEY=KEY) as (process, address):
        body, form = fuse_form(files, "a little brighter")
        assert request(address, "POST", "/v1/fuse", body, **form)[0] == 401
        assert request(address, "GET", "/metrics")[0] == 401
        assert request(address, "GET", "/healthz")[0] == 200
        bearer = {"Authorization": f"Bearer {KEY}"}
        assert request(address, "POST", "/v1/fuse", body, **form, **bearer)[0] == 200
        # What the page and its programs read needs the login, whatever a program's key.
        for path in ("/config", "/gradio_api/info", "/gradio_api/queue/status"):
            assert request(address, "GET", path)[0] == 401, path
        assert b"Two to four images" not in request(address, "GET", "/", **bearer)[2]
        context = browser.new_context()
        page = visit(context.new_page(), address, KEY)
        page.upload(*files)
        assert page.fuse().startswith("done")
        # The visitor's cookie opens the page alone.
        cookies = "; ".join(f"{c['name']}={c['value']}" for c in context.cookies())
        assert request(address, "GET", "/config", Cookie=cookies)[0] == 200
        assert request(address, "POST", "/v1/fuse", body, **form, Cookie=cookies)[0] == 401
        context.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not list(temporary.glob("ditfuse-app-*"))


def test_the_limit_of_time_holds_on_the_page(start, browser, visit, files, tmp_path_factory):
    temporary = tmp_path_factory.mktemp("short")
    options = ("--page", "--no-warm-up", "--timeout", "0.001")
    with start(temporary, *options, command="serve") as (_, address):
        context = browser.new_context()
        page = visit(context.new_page(), address)
        page.upload(*files)
        assert "took more than 0.001 seconds" in page.fuse()
        context.close()
