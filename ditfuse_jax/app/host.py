"""What serves the page: its ASGI application, and the folder of its files."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ditfuse_jax.optional import import_optional
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.pages import MakePage, Page, Run

if TYPE_CHECKING:
    from ditfuse_jax.app.equivalents import ModelChoice

USER = "ditfuse"


@contextlib.contextmanager
def page_maker(choice: "ModelChoice", limits: Limits) -> Iterator[MakePage]:
    """Yields a function that makes the page; at the end its folder is deleted, with all files.

    Args:
      choice: how the shown commands name the model.
      limits: of a request.

    Raises:
      UserError: the extra `app` is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="ditfuse-app-"))
    # Gradio reads these when it is imported.
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_MCP_SERVER": "False",
        "GRADIO_RUN_HISTORY": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }

    def make(fuser: Fuser, key: str, run: Run, together: int = 1) -> Page:
        from ditfuse_jax.app.examples import write_examples
        from ditfuse_jax.app.offline import offline
        from ditfuse_jax.app.page import CSS, build_page, make_theme
        from ditfuse_jax.app.sessions import Sessions
        from ditfuse_jax.app.work import Work

        (folder / "examples").mkdir()
        examples = write_examples(folder / "examples")
        mounted = gradio.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None),
            build_page(Work(fuser, run, choice, limits), Sessions(folder), examples, together),
            path="/",
            auth=(USER, key) if key else None,
            auth_message=f"The user name is {USER}; the password is the server's key.",
            max_file_size=limits.request_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            show_error=False,
            theme=make_theme(),
            css=CSS,
        )
        return Page(offline(mounted), lambda: mounted.router.lifespan_context(mounted))

    try:
        gradio = import_optional("gradio", "app")
        fastapi = import_optional("fastapi", "app")
        yield make
    finally:
        shutil.rmtree(folder, ignore_errors=True)
