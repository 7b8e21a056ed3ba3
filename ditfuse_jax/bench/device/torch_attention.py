"""PyTorch's attention on the same sequences, for comparison."""

import statistics
import time
from importlib.util import find_spec
from typing import Any

import numpy as np

from ditfuse_jax.bench.device.attention import inputs, rates
from ditfuse_jax.bench.device.outcome import NotApplicable
from ditfuse_jax.bench.device.plan import Scale


def time_sdpa(scale: Scale, side: int) -> dict[str, Any]:
    """Times `scaled_dot_product_attention` with a dense mask, forward and with gradients.

    Raises:
      NotApplicable: PyTorch is not installed.
    """
    if find_spec("torch") is None:
        raise NotApplicable("PyTorch is not installed")
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    mask, (q, k, v, valid, cotangent) = inputs(scale, side)
    dtype = getattr(torch, scale.dtype)

    def tensor(x: np.ndarray) -> Any:  # (1, N, H, d) -> (1, H, N, d)
        return torch.from_numpy(x).to(device, dtype).transpose(1, 2).contiguous()

    q, k, v, cotangent = map(tensor, (q, k, v, cotangent))
    allowed = torch.from_numpy(mask.dense()[None, None] & valid[:, None, None]).to(device)
    attention = torch.nn.functional.scaled_dot_product_attention

    def forward() -> None:
        with torch.no_grad():
            attention(q, k, v, attn_mask=allowed)

    def both() -> None:
        rows = [x.detach().requires_grad_() for x in (q, k, v)]
        attention(*rows, attn_mask=allowed).backward(cotangent)

    def seconds(run: Any) -> float:
        times = []
        for _ in range(scale.repeats + 1):
            started = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return statistics.median(times[1:])

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    facts = {"PyTorch": torch.__version__, "on": name}
    return rates(scale, mask, seconds(forward), seconds(both)) | facts
