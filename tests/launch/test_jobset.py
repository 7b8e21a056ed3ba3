"""The JobSet: its fields are those of the API, and its parts agree."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from launch import Cpu, Gpu, Kubernetes, Tpu, jobset
from launch.hardware import GPUS, TPUS

# The fields of the API (sigs.k8s.io/jobset v1alpha2, Kubernetes batch/v1 and core/v1), as far as
# the launcher writes them; "!" marks required ones, a type or a value is what must be there.
NAME_VALUE = {"name!": str, "value": str}
SECRETS = [{"secretRef": {"name!": str}}]
MOUNTS = [{"name!": str, "mountPath!": str}]
INIT_CONTAINER = {
    "name!": str,
    "image!": str,
    "command!": [str],
    "envFrom": SECRETS,
    "volumeMounts!": MOUNTS,
}
CONTAINER = {
    "name!": str,
    "image!": str,
    "command": [str],
    "args": [str],
    "env": [NAME_VALUE],
    "envFrom": SECRETS,
    "ports": [{"containerPort!": int}],
    "volumeMounts": MOUNTS,
    "resources": {"limits": {"google.com/tpu": int, "nvidia.com/gpu": int}},
    "securityContext": {"privileged": bool},
}
POD = {
    "serviceAccountName": str,
    "restartPolicy!": "Never",
    "terminationGracePeriodSeconds": int,
    "securityContext": {"runAsUser": int, "fsGroup": int},
    "nodeSelector": dict,
    "tolerations": [{"key!": str, "operator!": "Exists"}],
    "initContainers": [INIT_CONTAINER],
    "containers!": [CONTAINER],
    "volumes": [
        {
            "name!": str,
            "emptyDir": {"medium": str},
            "persistentVolumeClaim": {"claimName!": str},
        }
    ],
}
JOB = {
    "completionMode!": "Indexed",
    "completions!": int,
    "parallelism!": int,
    "backoffLimit": int,
    "podFailurePolicy": {
        "rules!": [
            {"action!": "FailJob", "onExitCodes!": {"operator!": "In", "values!": [int]}},
        ]
    },
    "template!": {"spec!": POD},
}
JOBSET = {
    "apiVersion!": "jobset.x-k8s.io/v1alpha2",
    "kind!": "JobSet",
    "metadata!": {"name!": str, "namespace": str, "annotations": dict},
    "spec!": {
        "network": {"enableDNSHostnames": True, "subdomain": str},
        "failurePolicy": {
            "maxRestarts": int,
            "rules": [{"name!": str, "action!": "FailJobSet", "onJobFailureReasons": [str]}],
        },
        "replicatedJobs!": [{"name!": str, "replicas": int, "template!": {"spec!": JOB}}],
    },
}


RULE = {
    "action!": str,
    "onExitCodes": {"operator!": "In", "values!": [int]},
    "onPodConditions": [{"type!": str, "status!": "True"}],
}
INDEXED_JOB = {
    "apiVersion!": "batch/v1",
    "kind!": "Job",
    "metadata!": {"name!": str, "namespace": str},
    "spec!": {
        "completionMode!": "Indexed",
        "completions!": int,
        "parallelism!": int,
        "backoffLimitPerIndex": int,
        "podFailurePolicy": {"rules!": [RULE]},
        "template!": {"spec!": POD},
    },
}


def check(value: Any, schema: Any, path: str = "") -> None:
    """Fails on a field that is unknown, missing or of another type."""
    if isinstance(schema, dict):
        assert isinstance(value, dict), path
        known = {field.rstrip("!"): inner for field, inner in schema.items()}
        assert set(value) <= set(known), f"{path}: {set(value) - set(known)}"
        assert {f.rstrip("!") for f in schema if f.endswith("!")} <= set(value), path
        for field, inner in value.items():
            check(inner, known[field], f"{path}.{field}")
    elif isinstance(schema, list):
        assert isinstance(value, list), path
        for index, inner in enumerate(value):
            check(inner, schema[0], f"{path}[{index}]")
    elif isinstance(schema, type):
        assert type(value) is schema, f"{path}: {value!r}"
    else:
        assert value == schema, f"{path}: {value!r}"


def parts(job) -> tuple[dict, dict, dict]:
    """Returns (JobSet, job, pod) as kubectl reads them."""
    (command,) = jobset.run(job)
    read = yaml.safe_load(command.document)
    (replicated,) = read["spec"]["replicatedJobs"]
    inner = replicated["template"]["spec"]
    return read, inner, inner["template"]["spec"]


def expand(text: str, variables: dict[str, str]) -> str:
    """Expands as Kubernetes does: $(NAME) if the variable exists, $$ to a dollar."""

    def replace(match: re.Match[str]) -> str:
        whole, name = str(match.group(0)), str(match.group(1))
        return "$" if whole == "$$" else variables.get(name, whole)

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


HARDWARE = [
    Gpu("h100", 4),
    Gpu("a100-80gb"),
    Cpu(2),
    Tpu("v5e", "1x1"),
    Tpu("v5e", "4x4"),
    Tpu("v6e", "2x4", chips_per_host=8),
    Tpu("v5p", "4x4x4", 3),
    Tpu("v7x", "2x2x2", 2),
]


@pytest.mark.parametrize("hardware", HARDWARE, ids=repr)
def test_every_field_is_in_the_api_and_none_is_missing(gpu_job, hardware):
    for spot in (False, True):
        read, _, pod = parts(gpu_job(hardware=hardware, spot=spot, env={"A": "1"}))
        check(read, JOBSET)
        assert all(isinstance(label, str) for label in pod["nodeSelector"].values())
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_check_detects_wrong_fields(gpu_job):
    sound, _, _ = parts(gpu_job())
    for path, wrong in {
        "spec": {"replicatedJob": []},
        "spec.failurePolicy": {"maxRestarts": "3"},
        "spec.network": {"enableDNSHostname": True},
        "metadata": {},
    }.items():
        *ways, last = path.split(".")
        broken = yaml.safe_load(yaml.safe_dump(sound))
        place = broken
        for way in ways:
            place = place[way]
        place[last] = wrong
        with pytest.raises(AssertionError):
            check(broken, JOBSET)


@pytest.mark.parametrize("hardware", [h for h in HARDWARE if isinstance(h, Tpu)], ids=repr)
def test_the_pods_of_a_slice_take_all_its_chips(gpu_job, hardware):
    read, inner, pod = parts(gpu_job(hardware=hardware))
    assert read["spec"]["replicatedJobs"][0]["replicas"] == hardware.slices
    assert inner["completions"] == inner["parallelism"]
    (container,) = pod["containers"]
    assert inner["parallelism"] * container["resources"]["limits"]["google.com/tpu"] == (
        hardware.chips
    )
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": TPUS[hardware.kind].label,
        "cloud.google.com/gke-tpu-topology": hardware.topology,
    }
    # GKE sets the addresses of the processes; ours would override them.
    assert not [item for item in container["env"] if item["name"].startswith("JAX_")]
    # Each slice is a separate node pool.
    assert ("annotations" in read["metadata"]) == (hardware.hosts > 1)


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_first_pod_coordinates_processes_on_gpu_nodes(gpu_job, nodes):
    read, inner, pod = parts(gpu_job(hardware=Gpu("h200", nodes)))
    (container,) = pod["containers"]
    variables = {item["name"]: item["value"] for item in container["env"]}
    # JobSet names pods JOBSET-REPLICATEDJOB-JOB-POD and their service as in `network`.
    (replicated,) = read["spec"]["replicatedJobs"]
    first = f"{read['metadata']['name']}-{replicated['name']}-0-0"
    host, port = variables["JAX_COORDINATOR_ADDRESS"].split(":")
    assert host == f"{first}.{read['spec']['network']['subdomain']}"
    assert port.isdecimal()
    assert read["spec"]["network"]["enableDNSHostnames"] is True
    assert variables["JAX_NUM_PROCESSES"] == str(nodes) == str(inner["parallelism"])
    assert replicated["replicas"] == 1  # the completion index numbers all pods
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": GPUS["h200"][0]}


def test_names_of_pods_fit_into_a_host_name(tpu_job):
    job = tpu_job("v5p", "16x16x24", slices=100, name="n" * 40, workdir="gs://bucket/run")
    read, inner, _ = parts(job)
    pod = f"{read['metadata']['name']}-node-99-{inner['completions'] - 1}"
    assert len(pod) <= 63


def test_arguments_and_variables_reach_the_training_unchanged(gpu_job, nasty):
    _, _, pod = parts(gpu_job(**nasty))
    (container,) = pod["containers"]
    words = [expand(word, {"PATH": "wrong", "id": "wrong"}) for word in container["args"]]
    assert [*container["command"], *words] == [
        *("ditfuse", "train", "--config", "small", "--workdir", nasty["workdir"]),
        *nasty["overrides"],
    ]
    variables = {i["name"]: expand(i["value"], {"id": "wrong"}) for i in container["env"]}
    assert nasty["env"].items() <= variables.items()


def test_only_bad_input_is_not_restarted(gpu_job):
    read, inner, pod = parts(gpu_job(max_restarts=7, grace_seconds=90))
    assert read["spec"]["failurePolicy"]["maxRestarts"] == 7
    assert inner["backoffLimit"] == 0
    (rule,) = inner["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2]
    (outer,) = read["spec"]["failurePolicy"]["rules"]
    assert outer["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert pod["terminationGracePeriodSeconds"] == 90


def test_node_labels_of_other_clusters_replace_those_of_gke(gpu_job):
    job = gpu_job(
        workdir="gs://bucket/run",
        kubernetes=Kubernetes(namespace="lab", node_selector={"gpu": "h100"}),
    )
    read, _, pod = parts(job)
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert read["metadata"]["namespace"] == "lab"
    for action in (jobset.status, jobset.stop):
        assert all("--namespace=lab" in command.argv for command in action(job))


BUCKETS = {"/data/photos": "gs://bucket/my photos", "/data/more": "s3://other/$more"}


@pytest.mark.parametrize("hardware", HARDWARE, ids=repr)
def test_a_run_in_a_bucket_needs_no_claim(gpu_job, hardware):
    job = gpu_job(
        hardware=hardware,
        workdir="gs://bucket/run",
        staged=BUCKETS,
        kubernetes=Kubernetes(service_account="trainer", secrets=("hub", "aws")),
    )
    read, _, pod = parts(job)
    check(read, JOBSET)
    assert "persistentVolumeClaim" not in str(read)
    assert pod["serviceAccountName"] == "trainer"
    for container in (*pod["containers"], *pod["initContainers"]):
        named = [source["secretRef"]["name"] for source in container["envFrom"]]
        assert named == ["hub", "aws"]


@pytest.mark.processes
def test_data_is_copied_before_the_training_to_a_volume_that_it_sees(gpu_job, fakes):
    _, _, pod = parts(gpu_job(staged=BUCKETS))
    seen = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for program in "gcloud", "aws", "mkdir":
        fakes.add(program)
    for container, folder in zip(pod["initContainers"], BUCKETS, strict=True):
        (mount,) = container["volumeMounts"]
        assert (mount["mountPath"], mount["name"]) == (folder, seen[folder])
        assert volumes[mount["name"]]["emptyDir"] == {}
        # The shell is started as Kubernetes does it.
        command = [expand(word, {"more": "wrong"}) for word in container["command"]]
        subprocess.run(command, check=True, env={"PATH": fakes.path})
    assert fakes.calls("mkdir") == [["-p", folder] for folder in BUCKETS]
    (google,) = fakes.calls("gcloud")
    assert google == ["storage", "rsync", "--recursive", "gs://bucket/my photos", "/data/photos"]
    assert fakes.calls("aws") == [["s3", "sync", "s3://other/$more", "/data/more"]]


@pytest.mark.parametrize("hardware", [Cpu(), Gpu("h100", nodes=3)])
def test_the_tasks_of_a_command_are_an_indexed_job_of_the_api(gpu_job, hardware):
    job = gpu_job(
        hardware=hardware,
        config="",
        workdir="",
        command=("prepare", "$HOME/photos", "-o", "/shared/packed"),
        tasks=7,
        kubernetes=Kubernetes(namespace="mine", claims={"/shared": "shared"}),
    )
    values = jobset.indexed_job(job)
    check(values, INDEXED_JOB)
    assert values["spec"]["completions"] == values["spec"]["parallelism"] == 7
    pod = values["spec"]["template"]["spec"]
    assert ("resources" in pod["containers"][0]) == isinstance(hardware, Gpu)
    assert pod["containers"][0]["args"] == [
        *("prepare", "$$HOME/photos", "-o", "/shared/packed", "--num-tasks=7"),
    ]
    (call,) = jobset.run(job)
    assert yaml.safe_load(call.document) == values
    (delete,) = jobset.stop(job)
    assert delete.argv == ("kubectl", "--namespace=mine", "delete", "job", "run")
    assert "--selector=batch.kubernetes.io/job-name=run" in jobset.status(job)[1].argv
