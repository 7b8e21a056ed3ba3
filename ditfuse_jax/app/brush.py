"""The brush with which a region is drawn over the first image, as a component of the page."""

from pathlib import Path

import gradio as gr

_ASSETS = Path(__file__).with_name("brush_assets")


def brush() -> gr.HTML:
    """Returns the component; its value is that of `drawing.start`, then one for `drawn_mask`."""
    parts = {kind: (_ASSETS / f"brush.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    return gr.HTML(
        {},
        html_template=parts["html"],
        css_template=parts["css"],
        js_on_load=parts["js"],
        apply_default_css=False,
        elem_id="drawing",
    )
