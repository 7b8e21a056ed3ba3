"""A model of OmniGen's size from scratch on two nodes with eight H100 each.

python -m launch slurm launch/examples/h100.py --dry-run
python -m launch jobset launch/examples/h100.py --dry-run
"""

from launch import Gpu, JobSpec, Kubernetes, Slurm


def get_job() -> JobSpec:
    return JobSpec(
        name="omnigen-h100",
        hardware=Gpu("h100", nodes=2),
        config="omnigen_pretrain",
        workdir="/shared/runs/omnigen",
        overrides=(
            "--config.autoencoder=/shared/weights/vae",
            "--config.data.mixture.photos.source=/shared/photos",
        ),
        env={"NCCL_DEBUG": "WARN"},
        repo="/shared/ditfuse_jax",
        image="registry.example.com/ditfuse:cuda",
        slurm=Slurm(
            directives=("--partition=gpu", "--time=24:00:00", "--exclusive"),
            cpus_per_process=64,
        ),
        kubernetes=Kubernetes(claims={"/shared": "shared"}),
    )
