"""Packs photographs in a bucket into shards there, on 16 CPU nodes with eight processes each.

python -m launch slurm launch/examples/pack.py --dry-run
python -m launch jobset launch/examples/pack.py --dry-run

The same, with the work on the command line:

ditfuse prepare gs://my-bucket/photos -o gs://my-bucket/packed/photos --processes 8
    --num-tasks 16 --jobset launch/examples/pack.py
"""

from launch import Cpu, JobSpec, Kubernetes, Slurm

PHOTOS, PACKED = "gs://my-bucket/photos", "gs://my-bucket/packed/photos"


def get_job() -> JobSpec:
    return JobSpec(
        name="pack",
        hardware=Cpu(),
        command=("prepare", PHOTOS, "-o", PACKED, "--max-side=1024", "--processes=8"),
        tasks=16,
        repo="/shared/ditfuse_jax",
        image="europe-docker.pkg.dev/my-project/ditfuse/ditfuse:tpu",  # TPUs are not needed
        slurm=Slurm(directives=("--time=04:00:00",), cpus_per_process=8),
        kubernetes=Kubernetes(service_account="ditfuse"),
    )
