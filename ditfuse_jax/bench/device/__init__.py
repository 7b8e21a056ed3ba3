"""All measurements that a borrowed GPU or TPU should settle, by one command.

python -m ditfuse_jax.bench.device --minutes 8 -o DIR
"""
