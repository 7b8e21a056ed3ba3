"""TPU virtual machines of the Cloud TPU API: the image runs in a container on every host.

A slice is the TPU node of the job's name; several are NAME-0, NAME-1, ... of one queued resource.
`create` makes them so, but it does not matter who did.
"""

import shlex

from launch.commands import Command
from launch.errors import LaunchError
from launch.hardware import TPUS, Tpu
from launch.job_spec import JobSpec


def create(job: JobSpec) -> list[Command]:
    """Asks for the slices; Google gives them when it has them."""
    tpu = _check(job)
    kind = TPUS[tpu.kind]
    if kind.flat:
        shape = (f"--accelerator-type={kind.type}-{tpu.chips}",)
    else:  # a number of chips has several shapes
        shape = (f"--type={kind.type}", f"--topology={tpu.topology}")
    several = (f"--node-count={tpu.slices}", f"--node-prefix={job.name}")
    words = (
        *("queued-resources", "create", job.name, *shape, f"--runtime-version={kind.runtime}"),
        *(several if tpu.slices > 1 else (f"--node-id={job.name}",)),
        *(("--spot",) if job.spot else ()),
    )
    return [_gcloud(job, *words)]


def run(job: JobSpec) -> list[Command]:
    """Starts the training on every host; a training that still runs there is left alone."""
    _check(job)
    job.require("tpu_vm", "image")
    container = [
        *("sudo", "docker", "run", "--detach", f"--name={job.name}"),
        # The TPUs' device files belong to root; workers hand each other arrays in shared memory.
        *("--privileged", "--user=0", "--network=host", "--ipc=host"),
        f"--restart=on-failure:{job.max_restarts}",
        f"--stop-timeout={job.grace_seconds}",
        *(f"--env={name}={value}" for name, value in job.env.items()),
        *(f"--volume={outside}:{inside}" for inside, outside in job.tpu_vm.folders.items()),
        *("--entrypoint=ditfuse", job.image, *job.arguments),
    ]
    running = f"[ -n \"$(sudo docker ps --quiet --filter name='^{job.name}$')\" ]"
    remove = f"sudo docker rm {job.name} >/dev/null 2>&1"  # an ended one
    start = f"{remove}; {shlex.join(container)}"
    return _on_every_host(job, f"if {running}; then echo runs already; else {start}; fi")


def status(job: JobSpec) -> list[Command]:
    """Shows each host's container and its last words."""
    _check(job)
    containers = f"sudo docker ps --all --filter name='^{job.name}$' --format '{{{{.Status}}}}'"
    return _on_every_host(job, f"{containers} && sudo docker logs --tail 5 {job.name}")


def stop(job: JobSpec) -> list[Command]:
    """Asks the training to save and end."""
    _check(job)
    return _on_every_host(job, f"sudo docker stop {job.name}")


def delete(job: JobSpec) -> list[Command]:
    """Gives the slices of `create` back."""
    _check(job)
    return [_gcloud(job, "queued-resources", "delete", job.name, "--force", "--quiet")]


ACTIONS = {"run": run, "create": create, "status": status, "stop": stop, "delete": delete}


def _check(job: JobSpec) -> Tpu:
    job.require("tpu_vm", "tpu_vm.zone")
    if not isinstance(job.hardware, Tpu):
        raise LaunchError("tpu_vm starts TPUs; Gpu and Cpu nodes are for slurm and jobset")
    if not TPUS[job.hardware.kind].type:
        raise LaunchError(f"{job.hardware.kind} is not offered as TPU VMs: use jobset")
    return job.hardware


def _on_every_host(job: JobSpec, command: str) -> list[Command]:
    slices = _check(job).slices
    nodes = [job.name] if slices == 1 else [f"{job.name}-{i}" for i in range(slices)]
    return [
        _gcloud(job, "tpu-vm", "ssh", node, "--worker=all", f"--command={command}")
        for node in nodes
    ]


def _gcloud(job: JobSpec, *words: str) -> Command:
    where = [f"--zone={job.tpu_vm.zone}"]
    if job.tpu_vm.project:
        where.append(f"--project={job.tpu_vm.project}")
    return Command(("gcloud", "compute", "tpus", *words, *where))
