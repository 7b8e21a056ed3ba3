"""The smallest training on one v6e machine, to test the bucket, the image and the rights.

It takes the bucket's photographs and ends after 200 steps.

python -m launch jobset launch/examples/v6e_first.py --dry-run
python -m launch tpu_vm launch/examples/v6e_first.py create --dry-run
python -m launch tpu_vm launch/examples/v6e_first.py --dry-run
"""

from launch import JobSpec, Kubernetes, Tpu, TpuVm


def get_job() -> JobSpec:
    return JobSpec(
        name="ditfuse-first",
        hardware=Tpu("v6e", "2x2"),
        config="nano_m3",
        workdir="gs://my-bucket/runs/first",
        overrides=(
            "--config.data.mixture.photos.source=gs://my-bucket/packed/photos",
            "--config.train.steps=200",
            "--config.train.checkpoint_every=100",
            "--config.train.profile_steps=(110, 115)",
        ),
        image="europe-docker.pkg.dev/my-project/ditfuse/ditfuse:tpu",
        kubernetes=Kubernetes(service_account="ditfuse"),
        tpu_vm=TpuVm(
            zone="europe-west4-a",
            service_account="ditfuse@my-project.iam.gserviceaccount.com",
        ),
    )
