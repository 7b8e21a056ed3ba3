"""ditfuse_jax: instruction-driven image fusion with a diffusion transformer in JAX.

Each package imports only packages before it: `images`, `prompts`, `degrade`, `tasks`, `pipeline`,
`model`, `flow`, `weights`, `parallel`, `train`, `sample`, `evaluate`, `convert`, `aot`, `sweep`,
`bench`, `cli`.  `api` holds the commands as Python calls.
"""

__version__ = "0.1.0"
