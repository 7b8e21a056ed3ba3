"""What one fused image is made from."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ditfuse_jax.prompts import prompt_tags
from ditfuse_jax.prompts.requests import Request, describe
from ditfuse_jax.sample.fingerprints import pixels_digest, text_digest
from ditfuse_jax.sample.source_roles import FoundRoles, describe_roles


def marks_classes(prompt: str) -> bool:
    """Whether a prompt asks the model to mark classes."""
    return prompt_tags(prompt)[0] == "SEG"


@dataclasses.dataclass(frozen=True)
class FusionInput:
    """What one fused image is made from.

    Attributes:
      sources: images of one scene, uint8 or uint16 (H, W, 3), all of one size.
      prompt: a full prompt with placeholders for the images.
      depth: bits of the fused image, 8 or 16; None for 16 if a source has them.
      group: only inputs of one group share a batch.
      applied: requests that image operations do; see `applied_requests.py`.
      plain: the full prompt without a request; needed where a request is limited to a region or
        marks classes.
      segment: what the prompt asks to mark, if it asks for that and the classes are known.
      name: what a warning calls the image.
      roles: which source is which, where other frames of a sequence tell it.
    """

    sources: Sequence[np.ndarray]
    prompt: str
    depth: int | None = None
    group: str = ""
    applied: tuple[Request, ...] = ()
    plain: str = ""
    segment: Request | None = None
    name: str = "an image"
    roles: FoundRoles = dataclasses.field(default_factory=dict)

    @property
    def output_depth(self) -> int:
        """Bits per channel of the fused image."""
        return self.depth or max(image.dtype.itemsize * 8 for image in self.sources)

    @property
    def source_roles(self) -> str:
        """Which images are taken as those that applied requests name; see `describe_roles`."""
        roles = dict.fromkeys(one.role for one in self.applied if one.role)
        return describe_roles(roles, self.sources, self.roles) if roles else ""

    @property
    def digest(self) -> str:
        """Differs between inputs of equal sources, prompt and depth that give other images."""
        if not self.plain or (not self.applied and not marks_classes(self.prompt)):
            return ""
        return f"{describe(self.applied)} {text_digest(self.plain)}"


@dataclasses.dataclass(frozen=True)
class RegionInput(FusionInput):
    """What one image is made from whose requests apply to a region only.

    Attributes:
      weights: float (H, W), 0 outside the region, 1 where the request applies fully; None for the
        region that the model marks for `mark`.
      mark: the request to mark the region; None with `weights`.
      feather: width of the border in pixels of a region that the model marks; None for
        2 % of the shorter side.
    """

    weights: np.ndarray | None = None
    mark: Request | None = None
    feather: float | None = None

    @property
    def digest(self) -> str:
        """See `FusionInput.digest`; differs between regions too."""
        pixels = "" if self.weights is None else pixels_digest(self.weights)
        region = text_digest(f"{self.plain} {pixels} {self.mark} {self.feather}")
        return f"{super().digest} {region}".strip()
