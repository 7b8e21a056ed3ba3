"""ditfuse_jax: instruction-driven image fusion with a diffusion transformer in JAX.

    from ditfuse_jax import Fuser
    fused = Fuser.load("small")("vis.png", "ir.png", "a little brighter")

Each package imports only packages before it: `images`, `prompts`, `degrade`, `tasks`, `pipeline`,
`model`, `flow`, `weights`, `parallel`, `train`, `sample`, `evaluate`, `convert`, `aot`, `sweep`,
`bench`, `cli`.  `api` holds the commands as Python calls.
"""

from typing import TYPE_CHECKING

from ditfuse_jax.lazy import lazy_attributes

if TYPE_CHECKING:
    from ditfuse_jax.errors import UserError
    from ditfuse_jax.sample import Fused, Fuser

__version__ = "0.2.0"

__all__ = ["Fused", "Fuser", "UserError", "__version__"]

# JAX and the model's code are imported when a name is first used.
__getattr__ = lazy_attributes(
    __name__,
    {
        "Fused": "ditfuse_jax.sample",
        "Fuser": "ditfuse_jax.sample",
        "UserError": "ditfuse_jax.errors",
    },
)


def __dir__() -> list[str]:
    return __all__
