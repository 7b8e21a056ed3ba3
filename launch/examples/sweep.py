"""The trainings of a sweep, each on a node with eight H100; runs and program are on a shared disk.

SLURM takes the program from the disk, Kubernetes from the image.  A sweep replaces `config`,
`workdir` and `overrides` of the description, and leaves the rest.

ditfuse sweep block_size --workdir /shared/runs/b --slurm launch/examples/sweep.py --dry-run
ditfuse sweep block_size --workdir /shared/runs/b --jobset launch/examples/sweep.py --dry-run
"""

from launch import Gpu, JobSpec, Kubernetes, Slurm


def get_job() -> JobSpec:
    return JobSpec(
        name="sweep",
        hardware=Gpu("h100"),
        config="nano_m3",
        workdir="/shared/runs/sweep",
        repo="/shared/ditfuse_jax",
        image="europe-docker.pkg.dev/my-project/ditfuse/ditfuse:cuda",
        slurm=Slurm(directives=("--partition=gpu", "--time=08:00:00")),
        kubernetes=Kubernetes(claims={"/shared": "shared-disk"}),
    )
