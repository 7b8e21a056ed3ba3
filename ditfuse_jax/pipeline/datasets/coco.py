"""COCO: photographs of everyday scenes, here without their annotations."""

from ditfuse_jax.pipeline.datasets.dataset import Dataset, Layout, Split

COCO = Dataset(
    name="coco_photos",  # tensorflow-datasets has a `coco` of its own
    title="COCO 2017 photographs",
    task="photographs: self-supervision, synthetic multi-focus and multi-exposure pairs",
    homepage="https://cocodataset.org",
    citation="Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014",
    licence="every photograph has the terms of its Flickr page",
    download="train2017.zip and val2017.zip on https://cocodataset.org/#download",
    splits={"train": Split(118287, ("train2017",)), "val": Split(5000, ("val2017",))},
    inputs=("image",),
    layouts=(Layout({"image": "{split}/{key}"}),),
)
