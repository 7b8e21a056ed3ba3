"""The server on a machine with eight devices, emulated on its CPU."""

import base64
import concurrent.futures

import numpy as np
import pytest

from ditfuse_jax import Fuser
from ditfuse_jax.images import decode_image, encode_image

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def test_eight_devices_share_the_batches_and_give_the_images_of_one(start, images):
    pairs = [[np.roll(image, 3 * k, axis=1) for image in images] for k in range(6)]
    options = ("--batch-size", "8", "--timeout", "600")
    with start(*options, JAX_NUM_CPU_DEVICES="8", JAX_PLATFORMS="cpu") as served:

        def send(pair):
            parts = [("image", encode_image(image, "x.png")) for image in pair]
            return served.post("/v1/fuse", [*parts, ("prompt", "a little brighter")])

        with concurrent.futures.ThreadPoolExecutor(len(pairs)) as pool:
            answers = list(pool.map(send, pairs))
        batches = served.counted("ditfuse_batch_images_count")
        assert served.counted("ditfuse_batch_images_sum") == 6
        # The first request is fused alone; the others wait, and come in a batch of five.
        assert batches < 6
    fuser = Fuser.load("small", steps=1)
    for pair, answer in zip(pairs, answers, strict=True):
        assert answer.status == 200, answer.body
        found = decode_image(base64.b64decode(answer.json["data"][0]["b64_json"]), "answer")
        expected = fuser(*pair, "a little brighter").image
        assert np.abs(found.astype(int) - expected).max() <= 1
