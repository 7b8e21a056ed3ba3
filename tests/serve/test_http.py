"""The routes, with a model that computes nothing."""

import asyncio
import base64
import contextlib
import logging
import threading
import types
from typing import Any

import numpy as np
import pytest

from ditfuse_jax.flow import SamplingConfig
from ditfuse_jax.sample import Fuser
from ditfuse_jax.sample.region import MarkedClass
from ditfuse_jax.serve.fields import read_fuse
from ditfuse_jax.serve.http import Server
from ditfuse_jax.serve.limits import Limits


class Fused:
    """An image that notes in which threads it is encoded."""

    image = np.zeros((48, 64, 3), np.uint8)
    understood, left_out, applied, notes = "nothing", "", "", ""

    def __init__(self):
        self.threads = []

    def encode(self, suffix):
        self.threads.append(threading.current_thread())
        return b"data"

    @property
    def settings(self):  # read when the JSON is written
        self.threads.append(threading.current_thread())
        return {}


class NoModel:
    """Takes the place of a `Fuser`."""

    trained = types.SimpleNamespace(name="none")
    sampling = SamplingConfig()

    def __init__(self):
        self.fused = Fused()

    def prepare(self, images, **arguments):
        return types.SimpleNamespace(batch_key=())

    def run(self, prepared):
        return [self.fused for _ in prepared]


@pytest.fixture
def fuser() -> Any:
    return NoModel()


def ask(server, method, path, body=b"", headers=None):
    """Status and body of an answer of the application, called directly."""
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body}]

    async def receive():
        if waiting:
            return waiting.pop()
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    coded = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *coded],
    }
    # What fails is raised again, for the program around the application.
    with contextlib.suppress(ZeroDivisionError):
        asyncio.run(server.app()(scope, receive, send))
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])


def test_an_answer_is_encoded_beside_the_event_loop(fuser, files, form_of):
    body, headers = form_of([("image", files[0]), ("image", files[1])])
    status, answer = ask(Server(fuser, Limits()), "POST", "/v1/fuse", body, headers)
    assert status == 200 and base64.b64encode(b"data") in answer
    assert len(fuser.fused.threads) == 2
    assert threading.main_thread() not in fuser.fused.threads


def test_health_is_bad_when_the_thread_that_fuses_has_ended(fuser):
    server = Server(fuser, Limits())
    assert ask(server, "GET", "/healthz") == (200, b'{"status":"ok","model":"none"}')
    server._batcher.close(10)
    assert ask(server, "GET", "/healthz")[0] == 503


def test_the_log_says_why_the_server_failed(fuser, caplog):
    server = Server(fuser, Limits())

    class Trained:
        @property
        def name(self):
            return 1 // 0

    fuser.trained = Trained()
    with caplog.at_level(logging.ERROR):
        status, body = ask(server, "GET", "/v1/models")
    assert status == 500 and b"its log says why" in body
    assert "/v1/models failed" in caplog.text and "ZeroDivisionError" in caplog.text


@pytest.mark.medium
def test_a_class_is_no_file_of_the_folder_of_the_server(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sky").write_bytes(b"a file of the folder")
    fuser = Fuser.load("small", steps=1)
    form = {"region": ["sky"], "adjust": ["brightness=+1"]}
    arguments = read_fuse(form, Limits(), fuser.sampling).arguments
    assert arguments["region"] == "sky" and isinstance(arguments["region"], MarkedClass)
    prepared: Any = fuser.prepare(images, **arguments)
    assert prepared.input.mark.classes == ("sky",) and prepared.input.weights is None
