"""Which of a scene's sources a request means: the infrared one, the near one, the first one.

Whoever asks for "more infrared" does not say which image that is, so the images decide.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import cv2
import numpy as np

from ditfuse_jax.degrade.adjust import LUMA_WEIGHTS
from ditfuse_jax.errors import UserError
from ditfuse_jax.images import is_grey, with_depth

_SIDE = 256  # pixels of the longer side of the images that are compared
_LEVELS_APART = 3.0  # of mean luma between two exposures
_NEAR_APART = 0.3  # correlation of the lead in sharpness with the height in the image
_SHARPNESS_SIGMA = 6.0  # pixels

GUESS = "a guess"
PLACES = ("first", "second")

# Role -> index of the source, and a warning if that is a guess.
FoundRoles = Mapping[str, tuple[int, str]]

# Index of the source, and whether the images show it clearly.
Found = tuple[int, bool]


def find_source(role: str, sources: Sequence[np.ndarray]) -> tuple[int, str]:
    """Returns the index of the source with a role, and a warning if the images do not show it.

    Infrared is the only grey image beside colour ones; under and over are the darkest and the
    brightest image; of two images, near is the one that is sharper further down, as the ground in
    front of a camera is.  Where the images do not tell, their usual order decides: visible before
    infrared, near before far, under before over.

    Args:
      role: one of `prompts.requests.ROLES`.
      sources: uint8 or uint16 (H, W, 3).

    Raises:
      UserError: there are too few sources.
    """
    if role in PLACES:
        index = PLACES.index(role)
        if index >= len(sources):
            raise UserError(f"there is no {role} image")
        return index, ""
    index, sure = _FINDERS[role](sources)
    if sure:
        return index, ""
    return index, (
        f"the images do not show which one is the {role} image: image {index + 1} is taken as it;"
        " `first` and `second` name the images by their places"
    )


def find_known(role: str, sources: Sequence[np.ndarray], known: FoundRoles) -> tuple[int, str]:
    """Returns what is known of a role, or else what `find_source` says."""
    return known[role] if role in known else find_source(role, sources)


def describe_roles(
    roles: Iterable[str], sources: Sequence[np.ndarray], known: FoundRoles = MappingProxyType({})
) -> str:
    """Returns which image is taken as which, such as `infrared: image 2 (a guess)`.

    Args:
      roles: those that requests name; `first` and `second` say it themselves.
      sources: uint8 or uint16 (H, W, 3).
      known: of other frames.
    """
    found = {role: find_known(role, sources, known) for role in roles if role not in PLACES}
    return ", ".join(
        f"{role}: image {index + 1}{f' ({GUESS})' if warning else ''}"
        for role, (index, warning) in found.items()
    )


def _infrared(sources: Sequence[np.ndarray]) -> Found:
    grey = [index for index, image in enumerate(sources) if is_grey(image)]
    return (grey[0], True) if len(grey) == 1 else ((grey or [len(sources) - 1])[-1], False)


def _visible(sources: Sequence[np.ndarray]) -> Found:
    coloured = [index for index, image in enumerate(sources) if not is_grey(image)]
    return (coloured[0], True) if len(coloured) == 1 else ((coloured or [0])[0], False)


def _under(sources: Sequence[np.ndarray]) -> Found:
    means = [float(_small_luma(image).mean()) for image in sources]
    if max(means) - min(means) < _LEVELS_APART:
        return 0, False
    return int(np.argmin(means)), True


def _over(sources: Sequence[np.ndarray]) -> Found:
    means = [float(_small_luma(image).mean()) for image in sources]
    if max(means) - min(means) < _LEVELS_APART:
        return len(sources) - 1, False
    return int(np.argmax(means)), True


def _near(sources: Sequence[np.ndarray]) -> Found:
    if len(sources) != 2:
        return 0, False
    tendency = _lower_is_sharper(*sources)
    return (int(tendency < 0), True) if abs(tendency) >= _NEAR_APART else (0, False)


def _far(sources: Sequence[np.ndarray]) -> Found:
    if len(sources) != 2:
        return len(sources) - 1, False
    near, sure = _near(sources)
    return (1 - near, sure) if sure else (1, False)


_FINDERS: dict[str, Callable[[Sequence[np.ndarray]], Found]] = {
    "infrared": _infrared,
    "visible": _visible,
    "near": _near,
    "far": _far,
    "under": _under,
    "over": _over,
}


def _lower_is_sharper(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the correlation of the height with the lead of `one` in sharpness, -1 to 1.

    Positive: `one` is sharper further down than further up.
    """
    energies = []
    for image in (one, other):
        fine = np.abs(cv2.Laplacian(_small_luma(image), cv2.CV_32F, ksize=3))
        energies.append(cv2.GaussianBlur(fine, (0, 0), _SHARPNESS_SIGMA))
    lead = (energies[0] - energies[1]) / (energies[0] + energies[1] + 1.0)
    rows = np.broadcast_to(np.arange(lead.shape[0])[:, None], lead.shape)
    if lead.std() < 1e-3 or rows.std() == 0:
        return 0.0
    return float(np.corrcoef(rows.ravel(), lead.ravel())[0, 1])


def _small_luma(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(with_depth(image, 8), size, interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) @ LUMA_WEIGHTS
