"""A model of OmniGen's size from scratch on a slice of 256 v6e chips, from a bucket.

The run, the packed photographs and the autoencoder are in the bucket, read in place; no folder is
shared.

python -m launch jobset launch/examples/v6e_256.py --dry-run
python -m launch tpu_vm launch/examples/v6e_256.py create --dry-run
python -m launch tpu_vm launch/examples/v6e_256.py --dry-run
"""

from launch import JobSpec, Kubernetes, Tpu, TpuVm


def get_job() -> JobSpec:
    return JobSpec(
        name="omnigen-v6e",
        hardware=Tpu("v6e", "16x16"),
        config="omnigen_pretrain",
        workdir="gs://my-bucket/runs/omnigen-v6e",
        overrides=(
            "--config.data.mixture.photos.source=gs://my-bucket/packed/photos",
            "--config.autoencoder=gs://my-bucket/weights/vae",
            "--config.data.batch_size=1024",
        ),
        image="europe-docker.pkg.dev/my-project/ditfuse/ditfuse:tpu",
        spot=True,
        kubernetes=Kubernetes(service_account="ditfuse"),
        tpu_vm=TpuVm(
            zone="europe-west4-a",
            service_account="ditfuse@my-project.iam.gserviceaccount.com",
        ),
    )
