"""The smallest training on two CPU nodes, to test a cluster.

python -m launch slurm launch/examples/nano.py --dry-run
"""

from launch import Cpu, JobSpec, Slurm


def get_job() -> JobSpec:
    return JobSpec(
        name="nano",
        hardware=Cpu(nodes=2),
        config="nano_m3",
        workdir="/shared/runs/nano",
        env={"JAX_PLATFORMS": "cpu"},
        repo="/shared/ditfuse_jax",
        slurm=Slurm(directives=("--time=00:30:00",)),
    )
