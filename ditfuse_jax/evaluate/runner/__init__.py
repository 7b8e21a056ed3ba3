"""Running an evaluation: scenes, fused images, cached scores, suites."""
