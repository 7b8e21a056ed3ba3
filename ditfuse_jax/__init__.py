"""ditfuse_jax: instruction-driven image fusion with a diffusion transformer in JAX.

The folders are the data's way through the program, each importing only those before it:
`images`, `prompts`, `degrade`, `tasks`, `pipeline`, `model`, `flow`, `parallel`, `train`,
`sample`, `evaluate`, `convert`, `cli`.
"""

__version__ = "0.1.0"
