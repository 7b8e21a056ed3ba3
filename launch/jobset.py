"""Kubernetes: a JobSet (jobset.sigs.k8s.io) of TPU slices, GPU nodes or CPU nodes.

The tasks of a command are an Indexed Job, for which the cluster needs no JobSet.
"""

from typing import Any

import yaml

from launch.commands import Command
from launch.errors import EXIT_USER_ERROR, LaunchError
from launch.hardware import GPUS, GPUS_PER_NODE, TPUS, Cpu, Gpu, Tpu
from launch.job_spec import JobSpec, bucket_scheme

PORT = 1234

# Images with the programs that copy from a bucket.
COPY_IMAGES = {
    "gs://": "gcr.io/google.com/cloudsdktool/google-cloud-cli:slim",
    "s3://": "public.ecr.aws/aws-cli/aws-cli:latest",
}


def manifest(job: JobSpec) -> dict[str, Any]:
    """Returns the JobSet: one job per slice, one pod per host, one process per pod.

    Raises:
      LaunchError: a required field is empty, or the hardware is not supported.
    """
    job.require("jobset", "image")
    hardware = job.hardware
    if isinstance(hardware, Tpu) and hardware.slices > 1 and hardware.hosts == 1:
        raise LaunchError(
            f"{hardware.slices} slices of {hardware.kind} {hardware.topology} have one host each: "
            "GKE connects only slices of several hosts; use a larger topology or smaller hosts"
        )
    job.require_reachable_workdir("kubernetes.claims")
    slices, hosts = _shape(hardware)
    metadata: dict[str, Any] = {"name": job.name}
    if job.kubernetes.namespace:
        metadata["namespace"] = job.kubernetes.namespace
    if isinstance(hardware, Tpu) and hardware.hosts > 1:
        # A node pool is a slice: each job gets its own.
        exclusive = "alpha.jobset.sigs.k8s.io/exclusive-topology"
        metadata["annotations"] = {exclusive: "cloud.google.com/gke-nodepool"}
    # After bad input a restart would fail again.
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [EXIT_USER_ERROR]}}]
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            # The headless service that gives the pods host names.
            "network": {"enableDNSHostnames": True, "subdomain": job.name},
            "failurePolicy": {
                "maxRestarts": job.max_restarts,
                "rules": [
                    {
                        "name": "badInput",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [
                {
                    "name": "node",
                    "replicas": slices,
                    "template": {
                        "spec": {
                            "completionMode": "Indexed",
                            "completions": hosts,
                            "parallelism": hosts,
                            # A single process cannot rejoin: the whole set is restarted.
                            "backoffLimit": 0,
                            "podFailurePolicy": {"rules": rules},
                            "template": {"spec": _pod(job)},
                        }
                    },
                }
            ],
        },
    }


def indexed_job(job: JobSpec) -> dict[str, Any]:
    """Returns the Indexed Job of a command's tasks: one pod per task.

    A task finds its number in `JOB_COMPLETION_INDEX`.

    Raises:
      LaunchError: a required field is empty.
    """
    job.require("jobset", "image", "command")
    job.require_reachable_workdir("kubernetes.claims")
    metadata: dict[str, Any] = {"name": job.name}
    if job.kubernetes.namespace:
        metadata["namespace"] = job.kubernetes.namespace
    bad_input = {"operator": "In", "values": [EXIT_USER_ERROR]}
    rules = [
        # A node that is taken away is no failure of the task; bad input would fail again.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": bad_input},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": job.tasks,
            "parallelism": job.tasks,
            "backoffLimitPerIndex": job.max_restarts,
            "podFailurePolicy": {"rules": rules},
            "template": {"spec": _pod(job)},
        },
    }


def run(job: JobSpec) -> list[Command]:
    """Creates the JobSet or Job; kubectl fails if one of this name exists."""
    values = indexed_job(job) if job.tasks else manifest(job)
    document = yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)
    return [Command(("kubectl", "create", "--filename=-"), _required_nodes(job) + document)]


def status(job: JobSpec) -> list[Command]:
    """Shows the JobSet or Job and its pods."""
    owner = "batch.kubernetes.io/job-name" if job.tasks else "jobset.sigs.k8s.io/jobset-name"
    selector = f"--selector={owner}={job.name}"
    return [
        _kubectl(job, "get", _kind(job), job.name),
        _kubectl(job, "get", "pods", selector, "--output=wide"),
    ]


def profile(job: JobSpec) -> list[Command]:
    """Makes the training write a profile of its next steps into the run folder.

    A signal to one process is enough.
    """
    job.require_training("profile")
    # The image has no program `kill`, but its shell does that.
    return [_kubectl(job, "exec", f"job/{job.name}-node-0", "--", "sh", "-c", "kill -USR1 1")]


def stop(job: JobSpec) -> list[Command]:
    """Deletes the JobSet or Job; the pods of a training save before they end."""
    return [_kubectl(job, "delete", _kind(job), job.name)]


ACTIONS = {"run": run, "status": status, "profile": profile, "stop": stop}


def _kind(job: JobSpec) -> str:
    return "job" if job.tasks else "jobset"


def _shape(hardware: Tpu | Gpu | Cpu) -> tuple[int, int]:
    """Returns the number of jobs and of pods per job."""
    if isinstance(hardware, Tpu):
        return hardware.slices, hardware.hosts
    return 1, hardware.nodes


def _pod(job: JobSpec) -> dict[str, Any]:
    labels, resources = _node_labels_and_resources(job.hardware)
    if job.kubernetes.node_selector is not None:
        labels = dict(job.kubernetes.node_selector)
    if job.spot:
        labels["cloud.google.com/gke-spot"] = "true"
    environment = [{"name": name, "value": _literal(value)} for name, value in job.env.items()]
    # On TPUs, GKE sets the addresses; elsewhere the first pod is the coordinator.
    if not isinstance(job.hardware, Tpu) and not job.tasks:
        environment += [
            {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{job.name}-node-0-0.{job.name}:{PORT}"},
            {"name": "JAX_NUM_PROCESSES", "value": str(job.hardware.nodes)},
        ]
    # Data workers pass arrays through shared memory; a container has 64 MB by default.
    volumes: list[dict[str, Any]] = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]
    for index, (folder, claim) in enumerate(job.kubernetes.claims.items()):
        source = {"persistentVolumeClaim": {"claimName": claim}}
        volumes.append({"name": f"claim-{index}", **source})
        mounts.append({"name": f"claim-{index}", "mountPath": folder})
    for index, folder in enumerate(job.staged):
        volumes.append({"name": f"staged-{index}", "emptyDir": {}})  # on the node's disk
        mounts.append({"name": f"staged-{index}", "mountPath": folder})
    credentials = {"envFrom": [{"secretRef": {"name": name}} for name in job.kubernetes.secrets]}
    container: dict[str, Any] = {
        "name": "ditfuse",
        "image": job.image,
        "command": ["ditfuse"],
        "args": [_literal(argument) for argument in job.arguments],
        "env": environment,
        "volumeMounts": mounts,
        **(credentials if job.kubernetes.secrets else {}),
    }
    copies = [
        {
            "name": f"stage-{index}",
            "image": COPY_IMAGES[str(bucket_scheme(address))],
            "command": ["/bin/sh", "-c", _literal(line)],
            "volumeMounts": [{"name": f"staged-{index}", "mountPath": folder}],
            **(credentials if job.kubernetes.secrets else {}),
        }
        for index, ((folder, address), line) in enumerate(
            zip(job.staged.items(), job.staging, strict=True)
        )
    ]
    # The image's user is 1000; the device files of TPUs belong to root.
    security: dict[str, Any] = {"fsGroup": 1000}
    if isinstance(job.hardware, Tpu):
        security = {"runAsUser": 0}
        container["securityContext"] = {"privileged": True}
        # Ports of the TPU runtime inside a slice and between slices.
        container["ports"] = [{"containerPort": port} for port in (8471, 8080)]
    if resources:
        container["resources"] = {"limits": resources}
    tolerated = [*resources, *(["cloud.google.com/gke-spot"] if job.spot else [])]
    account = job.kubernetes.service_account
    return {
        **({"serviceAccountName": account} if account else {}),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace_seconds,
        "securityContext": security,
        "nodeSelector": labels,
        "tolerations": [{"key": key, "operator": "Exists"} for key in tolerated],
        **({"initContainers": copies} if copies else {}),
        "containers": [container],
        "volumes": volumes,
    }


def _node_labels_and_resources(hardware: Tpu | Gpu | Cpu) -> tuple[dict[str, str], dict[str, int]]:
    """Returns GKE's labels of the nodes and the resources of a pod."""
    if isinstance(hardware, Tpu):
        labels = {
            "cloud.google.com/gke-tpu-accelerator": TPUS[hardware.kind].label,
            "cloud.google.com/gke-tpu-topology": hardware.topology,
        }
        return labels, {"google.com/tpu": hardware.chips_per_host}
    if isinstance(hardware, Gpu):
        label, _ = GPUS[hardware.kind]
        labels = {"cloud.google.com/gke-accelerator": label}
        return labels, {"nvidia.com/gpu": GPUS_PER_NODE}
    return {}, {}


def _literal(text: str) -> str:
    """Escapes dollars: Kubernetes replaces $(NAME) by the value of a variable."""
    return text.replace("$", "$$")


def _required_nodes(job: JobSpec) -> str:
    """Returns a comment with the nodes that GKE must have."""
    if job.kubernetes.node_selector is not None:
        return ""
    if isinstance(job.hardware, Tpu):
        tpu = job.hardware
        machines = f"{tpu.hosts} x {tpu.machine}, topology {tpu.topology}"
        return f"# For {tpu.slices} node pool(s) of {machines}.\n"
    if isinstance(job.hardware, Gpu) and not job.tasks:
        return f"# For {job.hardware.nodes} x {GPUS[job.hardware.kind][1]}.\n"
    return ""


def _kubectl(job: JobSpec, *arguments: str) -> Command:
    namespace = (f"--namespace={job.kubernetes.namespace}",) if job.kubernetes.namespace else ()
    return Command(("kubectl", *namespace, *arguments))
