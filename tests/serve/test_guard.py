"""Which web pages may use a server for this machine only."""

import asyncio
import json

import pytest

from ditfuse_jax.serve.guard import LOOPBACK, Guard


async def ok(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


def answer(*headers, hosts=LOOPBACK):
    """The status, and the message of an error."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "path": "/v1/fuse", "headers": [(b"host", b"localhost:1"), *headers]}
    asyncio.run(Guard(ok, key="", request_bytes=10, hosts=hosts)(scope, receive, send))
    body = json.loads(sent[1]["body"])["error"]["message"] if len(sent) > 1 else ""
    return sent[0]["status"], body


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"http://localhost.evil.example", b"null", b"", b"http://[::1"],
)
def test_a_foreign_page_is_refused(origin):
    status, message = answer((b"origin", origin))
    assert status == 403 and "web pages of other servers" in message


@pytest.mark.parametrize(
    "origin", [b"http://localhost:7860", b"http://127.0.0.1:8000", b"http://[::1]:8000"]
)
def test_a_page_of_this_machine_is_answered(origin):
    assert answer((b"origin", origin)) == (200, "")


def test_programs_send_no_origin_and_servers_for_others_take_any():
    assert answer() == (200, "")
    assert answer((b"origin", b"https://shop.example"), hosts=()) == (200, "")
