"""Folder and file names that many archives use."""

from ditfuse_jax.pipeline.datasets.dataset import Layout

VISIBLE = "(vi|vis|visible|rgb)"
INFRARED = "(ir|inf|infrared|thermal)"

# A folder per modality, as in most collections of infrared and visible images.
VISIBLE_INFRARED = Layout({"visible": f"{VISIBLE}/{{key}}", "infrared": f"{INFRARED}/{{key}}"})

# A folder per source, or files beside each other that end in A and B.
A_B_FOLDERS = Layout(
    {
        "a": "(a|sourceA|source_1|source1|image1)/{key}",
        "b": "(b|sourceB|source_2|source2|image2)/{key}",
    }
)
A_B_FILES = Layout({"a": "{key}(-|_)a", "b": "{key}(-|_)b"})
