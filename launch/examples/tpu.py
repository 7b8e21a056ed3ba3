"""A model of OmniGen's size from scratch on two slices of 64 v5p chips.

The parameters are sharded within a slice and replicated across slices.

python -m launch jobset launch/examples/tpu.py --dry-run
python -m launch tpu_vm launch/examples/tpu.py create --dry-run
python -m launch tpu_vm launch/examples/tpu.py --dry-run
"""

from launch import JobSpec, Kubernetes, Tpu, TpuVm


def get_job() -> JobSpec:
    return JobSpec(
        name="omnigen-tpu",
        hardware=Tpu("v5p", "4x4x4", slices=2),
        config="omnigen_pretrain",
        workdir="/shared/runs/omnigen",
        overrides=(
            "--config.autoencoder=/shared/weights/vae",
            "--config.data.mixture.photos.source=/shared/photos",
            "--config.mesh.dcn_data=2",
        ),
        image="europe-docker.pkg.dev/my-project/ditfuse/ditfuse:tpu",
        spot=True,
        kubernetes=Kubernetes(claims={"/shared": "shared"}),
        tpu_vm=TpuVm(zone="europe-west4-b", folders={"/shared": "/mnt/shared"}),
    )
