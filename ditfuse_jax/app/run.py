"""Runs the page until a signal ends it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ditfuse_jax.optional import import_optional
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.serve.guard import LOOPBACK, Guard
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.run import access_key, bound, run_app

USER = "ditfuse"


def app(
    model: str,
    *,
    adapters: Sequence[str] = (),
    base: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    limits: Limits | None = None,
    load: Callable[[], Fuser] | None = None,
) -> None:
    """Shows the page until SIGTERM or SIGINT.

    It works without a network, sends nothing anywhere, and keeps files in a folder of its own,
    which is deleted at the end.  With the environment variable `DITFUSE_API_KEY`, the page asks for
    the user `ditfuse` and that password.

    Args:
      model: see `Fuser.load`; also what the shown commands name.
      host: address to listen at; others than this machine's own need the key.
      port: 0 for a free one.
      limits: of a request.
      load: loads the model instead of `Fuser.load(model)`.

    Raises:
      UserError: the extra `app` is not installed, the address is not free or open without a key, or
        the model cannot be loaded.
    """
    key, local = access_key(host), host in LOOPBACK
    limits = limits or Limits()
    folder = Path(tempfile.mkdtemp(prefix="ditfuse-app-"))
    # Gradio reads these when it is imported.
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_MCP_SERVER": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    try:
        gradio = import_optional("gradio", "app")
        starlette = import_optional("fastapi", "app")
        with bound(host, port) as listener:
            from ditfuse_jax.app.equivalents import ModelChoice
            from ditfuse_jax.app.examples import write_examples
            from ditfuse_jax.app.offline import offline
            from ditfuse_jax.app.page import CSS, build_page, make_theme
            from ditfuse_jax.app.sessions import Sessions

            fuser = load() if load else Fuser.load(model, adapters=adapters, base=base)
            (folder / "examples").mkdir()
            examples = write_examples(folder / "examples")
            choice = ModelChoice(model, tuple(adapters), base)
            page = build_page(fuser, choice, Sessions(folder), limits, examples)
            mounted = gradio.mount_gradio_app(
                starlette.FastAPI(openapi_url=None),
                page,
                path="/",
                auth=(USER, key) if key else None,
                max_file_size=limits.request_bytes,
                ssr_mode=False,
                enable_monitoring=False,
                footer_links=[],
                show_error=False,
                theme=make_theme(),
                css=CSS,
            )
            guarded = Guard(
                offline(mounted),
                key="",
                request_bytes=limits.request_bytes,
                hosts=sorted(LOOPBACK) if local else (),
            )
            run_app(guarded, listener, limits, f"{fuser.trained.name}: open")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
