"""The page, in gradio."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import themes

from ditfuse_jax.app import drawing
from ditfuse_jax.app.brush import brush
from ditfuse_jax.app.equivalents import (
    SMALLER,
    changed_arguments,
    changed_number,
    size_settings,
)
from ditfuse_jax.app.sessions import Sessions
from ditfuse_jax.app.work import Result, Work
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import IMAGE_SUFFIXES
from ditfuse_jax.prompts.requests import CLASSES, TONE_AXES
from ditfuse_jax.prompts.taught_requests import TaughtRequests
from ditfuse_jax.sample.region import DEFAULT_FEATHER
from ditfuse_jax.sample.stack_fuser import padding_multiple

TASKS = {
    "any images": "fuse",
    "infrared and visible": "ivif",
    "focus settings": "mff",
    "exposures": "mef",
}
PREVIOUS = "previous result"
_EVERYWHERE = "whole image"
_FIRST = "first"  # source of the slider of emphasis, as `--adjust` names it
CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto !important}
#status {min-height: 1.6em}
@media (max-width: 640px) {.gradio-container {padding: 8px !important}}
"""
_BUTTONS: list[Any] = ["fullscreen"]


def make_theme() -> themes.Base:
    """Returns a theme that loads no fonts from elsewhere."""
    return themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def build_page(
    work: Work,
    sessions: Sessions,
    examples: Mapping[str, tuple[Sequence[str], str]],
    together: int = 1,
) -> gr.Blocks:
    """Builds the page.

    Args:
      work: fuses.
      sessions: keeps the files.
      examples: see `write_examples`.
      together: most stacks that are fused at the same time.
    """
    fuser, limits = work.fuser, work.limits
    sampling = fuser.sampling
    possible = TaughtRequests.parse(sampling.requests).with_applied(sampling.apply_requests)
    strongest = {axis: possible.levels[axis] for axis in TONE_AXES if axis in possible.levels}
    if "emphasis" in possible.levels:
        strongest[_FIRST] = possible.levels["emphasis"]
    tasks = {task: title for title, task in TASKS.items()}

    def fuse(request: gr.Request, files, prompt, task, drawn, feather, align, deep, full, *rest):
        steps, seed, place, *levels, history = rest
        limit = "" if place == _EVERYWHERE else f"{place}:"
        adjust = [
            f"{limit}{axis}={level:+d}"
            for axis, level in zip(strongest, levels, strict=True)
            if level
        ]
        own = fuser.sampling
        multiple = padding_multiple(fuser.trained.model)
        arguments = changed_arguments(
            prompt=(prompt or "").strip(),
            task=TASKS[task],
            adjust=adjust,
            align="auto" if align else None,
            depth=16 if deep else None,
            steps=changed_number(steps, own.steps),
            seed=changed_number(seed, own.seed),
            **size_settings(own, full, multiple),
        )
        session = str(request.session_hash)
        try:
            sessions.check(session)
            limits.check_sampling({"steps": arguments.get("steps", 1)}, own)
            new_folder = functools.partial(sessions.new_result, session)
            region = (drawn, DEFAULT_FEATHER if feather is None else feather / 100)
            result = work(files or [], arguments, new_folder, *region)
        except UserError as error:
            return [f"**{error}**", *[gr.skip()] * 8]
        history = [*history, result][-4:]
        before = _choices(history)
        where = " · in the region" if result.region else ""
        smaller = f" · computed at {result.computed} and enlarged" if result.computed else ""
        status = f"{result.understood or 'done'}{where}{smaller} · {result.seconds:.1f} s"
        return [
            status,
            gr.update(value=(result.sources[0], result.shown)),
            gr.update(choices=before, value=before[0], visible=True),
            gr.update(value=result.fused, interactive=True),
            result.command,
            result.python,
            gr.update(value=result.region, visible=result.region is not None),
            gr.update(value=[(r.shown, r.title) for r in history], visible=len(history) > 1),
            history,
        ]

    def compare(before: str, history: list[Result]):
        if not history:
            return gr.skip()
        last = history[-1]
        if before == PREVIOUS:
            return (history[-2].shown, last.shown)
        return (last.sources[_choices(history).index(before)], last.shown)

    def draw_over(files) -> dict[str, str]:
        return drawing.start(files[0] if files else None, limits.pixels)

    def keep(files, request: gr.Request) -> None:
        sessions.add_uploads(str(request.session_hash), files or [])

    def forget(request: gr.Request) -> None:
        sessions.close(str(request.session_hash))

    with gr.Blocks(title="DiTFuse", analytics_enabled=False, delete_cache=(600, 86400)) as page:
        history = gr.State([])
        gr.Markdown("# DiTFuse\nFuses two to four images of one scene as a sentence says.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                files = gr.File(
                    label="Two to four images",
                    file_count="multiple",
                    file_types=sorted(IMAGE_SUFFIXES),
                    elem_id="files",
                    height=150,
                )
                with gr.Row():
                    buttons = {
                        title: gr.Button(title, size="sm", variant="secondary")
                        for title in examples
                    }
                prompt = gr.Textbox(
                    label="What to do (empty: plain fusion)",
                    placeholder="a little brighter",
                    elem_id="prompt",
                    max_length=limits.prompt_characters,
                )
                task = gr.Dropdown(list(TASKS), value=tasks["fuse"], label="The images are")
                sliders = [
                    gr.Slider(
                        -most,
                        most,
                        0,
                        step=1,
                        label="Emphasis on image 1" if axis == _FIRST else axis.capitalize(),
                        elem_id=axis,
                    )
                    for axis, most in strongest.items()
                ]
                place = gr.Dropdown(
                    [_EVERYWHERE, *CLASSES],
                    value=_EVERYWHERE,
                    label="The sliders apply to",
                    elem_id="place",
                    visible=possible.regions,
                )
                with gr.Accordion("Draw a region", open=False):
                    drawn = brush()
                    feather = gr.Slider(
                        0,
                        20,
                        100 * DEFAULT_FEATHER,
                        step=0.5,
                        label="Soft border, % of the shorter side",
                        elem_id="feather",
                    )
                with gr.Accordion("More", open=False):
                    align = gr.Checkbox(label="Align the images to the first one")
                    deep = gr.Checkbox(label="16 bits per channel")
                    full = gr.Checkbox(
                        fuser.sampling.max_side == 0,
                        label="Full size",
                        info=f"otherwise computed at up to {fuser.sampling.max_side or SMALLER} "
                        "pixels and enlarged, which is quicker",
                    )
                    own_steps = fuser.sampling.steps
                    most_steps = max(own_steps, min(50, limits.steps))
                    steps = gr.Slider(1, most_steps, own_steps, step=1, label="Steps")
                    seed = gr.Number(fuser.sampling.seed, label="Seed", precision=0, minimum=0)
                button = gr.Button("Fuse", variant="primary", elem_id="fuse")
            with gr.Column(scale=3, min_width=300):
                status = gr.Markdown("", elem_id="status")
                slider = gr.ImageSlider(
                    label="Before and after",
                    type="filepath",
                    interactive=False,
                    elem_id="result",
                    buttons=_BUTTONS,
                    max_height=600,
                )
                before = gr.Radio([], label="Left of the line", visible=False, elem_id="before")
                download = gr.DownloadButton(
                    "Download with metadata", interactive=False, elem_id="download"
                )
                gallery = gr.Gallery(
                    label="Last results",
                    columns=4,
                    visible=False,
                    elem_id="last",
                    object_fit="contain",
                )
                with gr.Accordion("The same elsewhere", open=False):
                    command = gr.Code(
                        label="Command",
                        language="shell",
                        elem_id="command",
                        interactive=False,
                        wrap_lines=True,
                        lines=2,
                    )
                    python = gr.Code(
                        label="Python",
                        language="python",
                        elem_id="python",
                        interactive=False,
                        wrap_lines=True,
                    )
                    region = gr.DownloadButton(
                        "Download the region", visible=False, size="sm", elem_id="region"
                    )
        gr.Markdown(
            f"Images may have up to {limits.pixels / 1e6:g} megapixels. "
            "Files stay with this server and are deleted when the page is closed. "
            "The bundled model's weights are for research and non-commercial use."
        )
        switches = [align, deep, full]
        inputs = [files, prompt, task, drawn, feather, *switches, steps, seed, place]
        inputs += [*sliders, history]
        outputs = [status, slider, before, download, command, python, region, gallery, history]
        for start in (button.click, prompt.submit):
            start(
                fuse,
                inputs,
                outputs,
                api_visibility="private",
                concurrency_id="fuse",
                concurrency_limit=together,
            )
        before.input(compare, [before, history], slider, api_visibility="private")
        files.change(draw_over, files, drawn, api_visibility="private", show_progress="hidden")
        files.upload(keep, files, None, api_visibility="private", queue=False)
        for title, example in examples.items():
            paths, name = list(example[0]), tasks[example[1]]
            buttons[title].click(
                lambda paths=paths, name=name: (paths, name),
                None,
                [files, task],
                api_visibility="private",
            )
        page.unload(forget)
    page.queue(max_size=limits.queue, default_concurrency_limit=1, api_open=False)
    return page


def _choices(history: Sequence[Result]) -> list[str]:
    """What may be left of the slider's line: each source, and the result before the last one."""
    names = [f"image {k}" for k in range(1, len(history[-1].sources) + 1)]
    earlier = len(history) > 1 and Path(history[-2].shown).exists()
    return [*names, PREVIOUS] if earlier else names
