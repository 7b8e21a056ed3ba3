"""What the page does when its button is pressed; knows nothing of gradio."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ditfuse_jax.app.drawing import NAME, drawn_mask
from ditfuse_jax.app.equivalents import (
    ModelChoice,
    changed_settings,
    command_line,
    python_call,
)
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import with_depth, write_image
from ditfuse_jax.sample.fuser import Fuser
from ditfuse_jax.sample.region import DEFAULT_FEATHER
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.pages import Run
from ditfuse_jax.serve.uploads import decode_upload


@dataclasses.dataclass(frozen=True)
class Result:
    """A fused image as the page shows it.

    Attributes:
      fused: file with all bits and the metadata.
      shown: file with 8 bits.
      sources: files with 8 bits, aligned.
      region: file of the region that was drawn, of the first source's size; None without one.
      understood: one line, with what was left out; "" without a sentence.
      computed: size at which a larger image was computed, such as `1024x768`; or "".
      seconds: that it took.
      command, python: what does the same.
      title: for the list of results.
    """

    fused: str
    shown: str
    sources: tuple[str, ...]
    region: str | None
    understood: str
    computed: str
    seconds: float
    command: str
    python: str
    title: str


@dataclasses.dataclass(frozen=True)
class Work:
    """Fuses what visitors have uploaded.

    Attributes:
      fuser: the model, which prepares what is fused.
      run: fuses it.
      choice: how the command line names the model.
      limits: of the server.
    """

    fuser: Fuser
    run: Run
    choice: ModelChoice
    limits: Limits

    def __call__(
        self,
        files: Sequence[str],
        arguments: Mapping[str, Any],
        new_folder: Callable[[], Path],
        drawing: Any = None,
        feather: float = DEFAULT_FEATHER,
    ) -> Result:
        """Fuses files.

        Args:
          files: paths of the uploads.
          arguments: of `Fuser.__call__`; see `changed_arguments`.
          new_folder: returns an empty folder for the files of the result; called after the fusion,
            so that what fails leaves none.
          drawing: the region that was drawn over the first image; see `drawn_mask`.
          feather: width of the region's border as a share of the shorter side.

        Raises:
          UserError: see `Fuser.__call__`, `decode_upload` and `drawn_mask`.
        """
        fuser, limits = self.fuser, self.limits
        if len(files) < 2:
            raise UserError("choose two to four images of one scene, or an example")
        prompt = arguments.get("prompt") or ""
        if len(prompt) > limits.prompt_characters:
            raise UserError(
                f"the sentence is too long: at most {limits.prompt_characters} characters"
            )
        started = time.monotonic()
        names = [Path(file).name for file in files]
        images = [
            decode_upload(Path(file).read_bytes(), name, limits.pixels)
            for file, name in zip(files, names, strict=True)
        ]
        region = drawn_mask(drawing, images[0].samples.values.shape[:2], limits.pixels)
        limited: dict[str, Any] = {} if region is None else {"region": region}
        if region is not None and feather != DEFAULT_FEATHER:
            limited["feather"] = round(feather * min(region.shape), 1)
        fused = self.run(fuser.prepare(images, **arguments, **limited))
        seconds = time.monotonic() - started
        folder = new_folder()
        shown = folder / "shown.png"
        write_image(shown, with_depth(fused.image, 8))
        sources = []
        for number, source in enumerate(fused.sources, start=1):
            path = folder / f"image{number}.png"
            write_image(path, with_depth(source, 8))
            sources.append(str(path))
        if region is not None:
            write_image(folder / NAME, region[..., None].repeat(3, axis=2))
        understood = ""
        if fused.understood is not None:
            understood = f"understood: {fused.understood}"
            understood += f" ({fused.remarks})" if fused.remarks else ""
        understood = "; ".join(filter(None, (understood, fused.notes)))
        started_with = changed_settings(fuser.sampling, fuser.trained.sampling)
        complete = {**arguments, **{k: v for k, v in started_with.items() if k not in arguments}}
        if region is not None:
            complete |= limited | {"region": NAME}
        changes = [
            prompt,
            *arguments.get("adjust", ()),
            "in the region" if region is not None else "",
        ]
        return Result(
            str(fused.save(folder / "fused.png")),
            str(shown),
            tuple(sources),
            None if region is None else str(folder / NAME),
            understood,
            fused.metadata.get("computed at", ""),
            seconds,
            command_line(self.choice, names, complete),
            python_call(self.choice, names, complete),
            ", ".join(filter(None, changes)) or "plain fusion",
        )
