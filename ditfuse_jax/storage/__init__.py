"""Object stores: paths in them, and requests that are repeated when a store does not answer.

`paths.as_path` returns such paths.  Nothing here is imported for local ones.
"""
