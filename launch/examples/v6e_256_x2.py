"""`v6e_256` on two slices: sharded within a slice, replicated across the data-centre network.

python -m launch jobset launch/examples/v6e_256_x2.py --dry-run
python -m launch tpu_vm launch/examples/v6e_256_x2.py create --dry-run
python -m launch tpu_vm launch/examples/v6e_256_x2.py --dry-run
"""

from launch import JobSpec, Kubernetes, Tpu, TpuVm


def get_job() -> JobSpec:
    return JobSpec(
        name="omnigen-v6e-x2",
        hardware=Tpu("v6e", "16x16", slices=2),
        config="omnigen_pretrain",
        workdir="gs://my-bucket/runs/omnigen-v6e-x2",
        overrides=(
            "--config.data.mixture.photos.source=gs://my-bucket/packed/photos",
            "--config.autoencoder=gs://my-bucket/weights/vae",
            "--config.data.batch_size=2048",
            "--config.mesh.dcn_data=2",
        ),
        image="europe-docker.pkg.dev/my-project/ditfuse/ditfuse:tpu",
        spot=True,
        kubernetes=Kubernetes(service_account="ditfuse"),
        tpu_vm=TpuVm(
            zone="europe-west4-a",
            service_account="ditfuse@my-project.iam.gserviceaccount.com",
        ),
    )
