"""`python -m ditfuse_jax` is `ditfuse`."""

import sys

from ditfuse_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
