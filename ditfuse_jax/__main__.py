"""`python -m ditfuse_jax` is `ditfuse`."""

from ditfuse_jax.cli import command

if __name__ == "__main__":
    command()
