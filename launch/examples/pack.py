"""Packs photographs into shards on 16 CPU nodes, four processes on each.

python -m launch slurm launch/examples/pack.py --dry-run
python -m launch jobset launch/examples/pack.py --dry-run

The same, with the arguments on the command line: ditfuse prepare /shared/photos -o /shared/packed
--processes 4 --num-tasks 16 --slurm launch/examples/pack.py
"""

from launch import Cpu, JobSpec, Kubernetes, Slurm


def get_job() -> JobSpec:
    return JobSpec(
        name="pack",
        hardware=Cpu(),
        command=("prepare", "/shared/photos", "-o", "/shared/packed", "--processes=4"),
        tasks=16,
        repo="/shared/ditfuse_jax",
        image="registry.example.com/ditfuse:cpu",
        slurm=Slurm(directives=("--time=04:00:00",), cpus_per_process=4),
        kubernetes=Kubernetes(claims={"/shared": "shared"}),
    )
