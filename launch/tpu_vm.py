"""TPU virtual machines of the Cloud TPU API: the image runs in a container on every host.

A single slice is the TPU node with the job's name; several slices are the nodes NAME-0, NAME-1, ...
They are created by `create` or by other means.
"""

import shlex

from launch.commands import Command
from launch.errors import LaunchError
from launch.hardware import TPUS, Tpu
from launch.job_spec import JobSpec


def create(job: JobSpec) -> list[Command]:
    """Requests the slices as a queued resource."""
    tpu = _check(job)
    kind = TPUS[tpu.kind]
    if kind.topologies_2d:
        shape = (f"--accelerator-type={kind.type}-{tpu.chips}",)
    else:  # the number of chips does not determine the shape
        shape = (f"--type={kind.type}", f"--topology={tpu.topology}")
    account = job.tpu_vm.service_account
    several = (f"--node-count={tpu.slices}", f"--node-prefix={job.name}")
    arguments = (
        *("queued-resources", "create", job.name, *shape, f"--runtime-version={kind.runtime}"),
        *(several if tpu.slices > 1 else (f"--node-id={job.name}",)),
        *(("--spot",) if job.spot else ()),
        *((f"--service-account={account}",) if account else ()),
        *job.tpu_vm.options,
    )
    return [_gcloud(job, *arguments)]


def run(job: JobSpec) -> list[Command]:
    """Starts the training on every host where it is not running already."""
    _check(job)
    job.require("tpu_vm", "image")
    job.require_reachable_workdir("tpu_vm.folders")
    container = [
        *("sudo", "docker", "run", "--detach", f"--name={job.name}"),
        # The device files of TPUs belong to root; data workers use shared memory.
        *("--privileged", "--user=0", "--network=host", "--ipc=host"),
        f"--restart=on-failure:{job.max_restarts}",
        f"--stop-timeout={job.grace_seconds}",
        *(f"--env={name}={value}" for name, value in job.env.items()),
        *(f"--volume={outside}:{inside}" for inside, outside in job.tpu_vm.folders.items()),
        *(f"--volume={folder}:{folder}" for folder in job.staged),
        *("--entrypoint=ditfuse", job.image, *job.arguments),
    ]
    running = f"[ -n \"$(sudo docker ps --quiet --filter name='^{job.name}$')\" ]"
    remove = f"sudo docker rm {job.name} >/dev/null 2>&1"  # one that has ended
    # The folder is made by root, the copy runs as the user, whose gcloud has the VM's rights.
    owned = [f'sudo install -d -o "$USER" {shlex.quote(folder)}' for folder in job.staged]
    start = " && ".join([*owned, *job.staging, shlex.join(container)])
    start = f"{remove}; {start}"
    return _on_every_host(job, f"if {running}; then echo already running; else {start}; fi")


def status(job: JobSpec) -> list[Command]:
    """Shows each host's container and the last lines of its log."""
    _check(job)
    containers = f"sudo docker ps --all --filter name='^{job.name}$' --format '{{{{.Status}}}}'"
    return _on_every_host(job, f"{containers} && sudo docker logs --tail 5 {job.name}")


def profile(job: JobSpec) -> list[Command]:
    """Makes the training write a profile of its next steps into the run folder.

    A signal to one process is enough.
    """
    node = _nodes(job)[0]
    command = f"sudo docker kill --signal=USR1 {job.name}"
    return [_gcloud(job, "tpu-vm", "ssh", node, "--worker=0", f"--command={command}")]


def stop(job: JobSpec) -> list[Command]:
    """Makes the training save and end."""
    _check(job)
    return _on_every_host(job, f"sudo docker stop {job.name}")


def delete(job: JobSpec) -> list[Command]:
    """Deletes the slices of `create`."""
    _check(job)
    return [_gcloud(job, "queued-resources", "delete", job.name, "--force", "--quiet")]


ACTIONS = {
    "run": run,
    "create": create,
    "status": status,
    "profile": profile,
    "stop": stop,
    "delete": delete,
}


def _check(job: JobSpec) -> Tpu:
    job.require("tpu_vm", "tpu_vm.zone")
    if not isinstance(job.hardware, Tpu):
        raise LaunchError("tpu_vm starts TPUs; Gpu and Cpu nodes are for slurm and jobset")
    if not TPUS[job.hardware.kind].type:
        raise LaunchError(f"{job.hardware.kind} is not available as TPU VMs: use jobset")
    return job.hardware


def _on_every_host(job: JobSpec, command: str) -> list[Command]:
    return [
        _gcloud(job, "tpu-vm", "ssh", node, "--worker=all", f"--command={command}")
        for node in _nodes(job)
    ]


def _nodes(job: JobSpec) -> list[str]:
    """Returns the names of the slices."""
    slices = _check(job).slices
    return [job.name] if slices == 1 else [f"{job.name}-{i}" for i in range(slices)]


def _gcloud(job: JobSpec, *arguments: str) -> Command:
    where = [f"--zone={job.tpu_vm.zone}"]
    if job.tpu_vm.project:
        where.append(f"--project={job.tpu_vm.project}")
    return Command(("gcloud", "compute", "tpus", *arguments, *where))
