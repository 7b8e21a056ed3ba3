"""A model of OmniGen's size from scratch on eight nodes with eight H100 each.

The nodes share no folder: the run is in a bucket, the packed photographs are copied to each node's
disk before the training, and the program comes with the image.

python -m launch slurm launch/examples/h100.py --dry-run
python -m launch jobset launch/examples/h100.py --dry-run
"""

from launch import Gpu, JobSpec, Kubernetes, Slurm


def get_job() -> JobSpec:
    return JobSpec(
        name="omnigen-h100",
        hardware=Gpu("h100", nodes=8),
        config="omnigen_pretrain",
        workdir="gs://my-bucket/runs/omnigen-h100",
        staged={"/scratch/photos": "gs://my-bucket/packed/photos"},
        overrides=(
            "--config.data.mixture.photos.source=/scratch/photos",
            "--config.autoencoder=hf://stabilityai/sdxl-vae",
            "--config.data.batch_size=256",
        ),
        env={"NCCL_DEBUG": "WARN"},
        image="europe-docker.pkg.dev/my-project/ditfuse/ditfuse:cuda",
        slurm=Slurm(
            directives=("--partition=gpu", "--time=24:00:00", "--exclusive"),
            cpus_per_process=64,
        ),
        kubernetes=Kubernetes(service_account="ditfuse"),
    )
