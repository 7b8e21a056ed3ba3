"""Does the output follow the instruction: control of brightness and contrast, segmentation."""
