"""The description of a job: a training or packing, its hardware, and settings of each target."""

import dataclasses
import importlib.util
import re
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from launch.errors import LaunchError
from launch.hardware import Cpu, Gpu, Tpu

# Scheme of a bucket -> the program that copies a folder, and its arguments before the folders.
COPIERS = {
    "gs://": ("gcloud", "storage", "rsync", "--recursive"),
    "s3://": ("aws", "s3", "sync"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm:
    """Settings of sbatch.

    Attributes:
      directives: further `#SBATCH` options, like "--partition=gpu", "--time=08:00:00".
      setup: lines of bash before the training, like "module load cuda".
      process_per_gpu: start one process per GPU instead of one per node.
      cpus_per_process: cores of a process; 0 uses the cluster's default.
      mounts: folder in the container -> folder of the node, if `image` runs in a container (pyxis).
    """

    directives: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    process_per_gpu: bool = False
    cpus_per_process: int = 0
    mounts: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kubernetes:
    """Settings of the JobSet.

    Attributes:
      namespace: "" uses kubectl's default.
      service_account: of the pods, whose rights they have in buckets; "" uses the namespace's.
      secrets: names of Secrets whose entries become variables, like HF_TOKEN or AWS_ACCESS_KEY_ID.
      claims: folder in the container -> PersistentVolumeClaim that all nodes can write; not needed
        if `workdir` and the data are in a bucket.
      node_selector: labels of the nodes; None uses GKE's labels of the hardware.
    """

    namespace: str = ""
    service_account: str = ""
    secrets: tuple[str, ...] = ()
    claims: Mapping[str, str] = dataclasses.field(default_factory=dict)
    node_selector: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TpuVm:
    """Settings of gcloud.

    Attributes:
      zone: of the TPUs.
      project: "" uses gcloud's default.
      service_account: of the VMs that `create` requests, whose rights they have in buckets; ""
        uses the project's default.
      options: further options of `create`, like "--reserved" or "--network=my-network".
      folders: folder in the container -> folder of the VM that all VMs share (Filestore); not
        needed if `workdir` and the data are in a bucket.
    """

    zone: str = ""
    project: str = ""
    service_account: str = ""
    options: tuple[str, ...] = ()
    folders: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A training, or data to pack, and where it runs; a target uses the fields that apply to it.

    Attributes:
      name: of the job, its nodes and pods: lowercase letters, digits and hyphens.
      hardware: `Tpu`, `Gpu` or `Cpu`.
      config: `--config` of `ditfuse train`.
      workdir: `--workdir` of `ditfuse train`, in a bucket (gs://) or on a disk that all machines
        share.
      command: arguments of `ditfuse` for independent tasks instead of a training, as
        ("prepare", "gs://bucket/photos", "-o", "gs://bucket/packed"); `config` and `workdir` stay
        empty.
      tasks: number of these tasks, each on one node: a SLURM array or an Indexed Job.
      overrides: further arguments, like "--config.train.steps=9".
      imports: extensions, Python files or modules that are imported before the recipe is loaded.
      env: environment variables of the training.
      staged: folder on each machine -> folder in a bucket that is copied there before the training;
        data that is read in place, through `overrides`, is not copied.
      image: container image, for jobset and tpu_vm, and for slurm with pyxis.
      repo: folder of a checkout with its environment in `.venv`, for slurm; without it, `image`.
      spot: use preemptible machines (Google Cloud).
      max_restarts: how often the training is restarted after it was stopped or lost a machine
        (JobSet: after any failure except bad input; TPU VMs: after any failure).
      grace_seconds: time to save after SIGTERM.
      slurm: settings of this target.
      kubernetes: settings of the target jobset.
      tpu_vm: settings of this target.

    Raises:
      LaunchError: a value is invalid.
    """

    name: str
    hardware: Tpu | Gpu | Cpu
    config: str = ""
    workdir: str = ""
    command: tuple[str, ...] = ()
    tasks: int = 0
    overrides: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    staged: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image: str = ""
    repo: str = ""
    spot: bool = False
    max_restarts: int = 20
    grace_seconds: int = 120
    slurm: Slurm = dataclasses.field(default_factory=Slurm)
    kubernetes: Kubernetes = dataclasses.field(default_factory=Kubernetes)
    tpu_vm: TpuVm = dataclasses.field(default_factory=TpuVm)

    def __post_init__(self):
        # Pods are named NAME-node-SLICE-HOST-xxxxx; a host name has at most 63 characters.
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", self.name):
            raise LaunchError(
                f"name {self.name!r}: it must be at most 40 lowercase letters, digits and hyphens, "
                "start with a letter and not end with a hyphen"
            )
        if not isinstance(self.hardware, Tpu | Gpu | Cpu):
            raise LaunchError(f"hardware is {self.hardware!r}: it must be a Tpu, Gpu or Cpu")
        self._check_work()
        prefixes = {"overrides": "--config.", "slurm.directives": "--", "tpu_vm.options": "--"}
        for field in (*prefixes, "command", "imports", "slurm.setup", "kubernetes.secrets"):
            _check_arguments(field, self._get(field), prefixes.get(field, ""))
        check_workdir(self.workdir)
        for name, value in self.env.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not isinstance(value, str):
                raise LaunchError(
                    f"env {name!r}: {value!r}: it must map a variable's name to a string"
                )
        for folder, address in self.staged.items():
            if not folder.startswith("/") or bucket_scheme(address) is None:
                raise LaunchError(
                    f"staged {folder!r}: {address!r}: it must map an absolute folder to one in a "
                    f"bucket, {' or '.join(COPIERS)}"
                )
        for field in "kubernetes.claims", "tpu_vm.folders", "slurm.mounts":
            for inside, outside in self._get(field).items():
                if not inside.startswith("/") or not outside or ":" in inside + outside:
                    raise LaunchError(
                        f"{field} {inside!r}: {outside!r}: it must map an absolute folder of "
                        "the container to what is mounted there, without colons"
                    )

    def require(self, target: str, *fields: str) -> None:
        """Checks that the fields a target needs are set.

        Raises:
          LaunchError: a field is empty.
        """
        missing = [field for field in fields if not self._get(field)]
        if missing:
            raise LaunchError(f"{target} needs {' and '.join(missing)} in the description")

    def require_training(self, action: str) -> None:
        """Checks that the job is a training.

        Raises:
          LaunchError: it is a command.
        """
        if self.command:
            raise LaunchError(f"{action} is for trainings, not for the tasks of a command")

    def require_reachable_workdir(self, mounted: str) -> None:
        """Checks that a container can reach `workdir`, or the `--output` of a command: what it
        writes elsewhere is lost with it.

        Args:
          mounted: the field with the folders that are mounted in the container.

        Raises:
          LaunchError: it is neither in a bucket nor on one of them.
        """
        folders = [PurePosixPath(folder) for folder in self._get(mounted)]
        name, written = "workdir", self.workdir
        if self.command:
            name, written = "the output", _value_of(("-o", "--output"), self.command)
        if bucket_scheme(written) or any(map(PurePosixPath(written).is_relative_to, folders)):
            return
        raise LaunchError(
            f"{name} {written!r} would be lost with the container: give a folder in a bucket "
            f"(gs://BUCKET/RUN), or mount one with {mounted}"
        )

    @property
    def staging(self) -> list[str]:
        """Lines of bash that copy `staged` to this machine; unchanged files are skipped."""
        return [
            f"mkdir -p {shlex.quote(folder)} && "
            f"{shlex.join([*COPIERS[str(bucket_scheme(address))], address, folder])}"
            for folder, address in self.staged.items()
        ]

    @property
    def arguments(self) -> list[str]:
        """The arguments of `ditfuse`."""
        imports = [f"--import={name}" for name in self.imports]
        if self.command:
            return [*self.command, *imports, f"--num-tasks={self.tasks}"]
        fixed = ["train", "--config", self.config, "--workdir", self.workdir]
        return [*fixed, *imports, *self.overrides]

    def _check_work(self) -> None:
        if not self.command:
            for field in ("config", "workdir"):
                if not getattr(self, field):
                    raise LaunchError(f"{field} is empty: `ditfuse train` needs it")
            if self.tasks:
                raise LaunchError("tasks are those of a command; a training has none")
            return
        if self.config or self.workdir or self.overrides:
            raise LaunchError("command replaces a training: leave config, workdir and overrides")
        if not isinstance(self.tasks, int) or self.tasks < 1:
            raise LaunchError(f"tasks is {self.tasks!r}: a command needs at least 1")
        if isinstance(self.hardware, Tpu):
            raise LaunchError("the tasks of a command run on Cpu or Gpu nodes, not on TPUs")

    def _get(self, field: str) -> Any:
        value = self
        for name in field.split("."):
            value = getattr(value, name)
        return value


def _value_of(options: tuple[str, ...], arguments: tuple[str, ...]) -> str:
    """Returns the value of an option among arguments, or ""."""
    for number, word in enumerate(arguments):
        option, equals, value = word.partition("=")
        if option in options:
            return value if equals else "".join(arguments[number + 1 : number + 2])
    return ""


def bucket_scheme(address: str) -> str | None:
    """Returns the scheme of an address in a bucket, `gs://` or `s3://`, or None."""
    return next((s for s in COPIERS if address.startswith(s) and address.strip() != s), None)


def check_workdir(workdir: str) -> None:
    """Refuses object stores that a training cannot write (docs/storage.md).

    Raises:
      LaunchError: it is in such a store.
    """
    scheme, separator, _ = workdir.partition("://")
    if separator and bucket_scheme(workdir) != "gs://":
        raise LaunchError(
            f"workdir {workdir!r}: a training cannot write to {scheme}://; give gs://BUCKET/RUN, "
            "or a folder on a shared disk"
        )


def load_job_spec(path: Path) -> JobSpec:
    """Runs a Python file and returns the result of its `get_job()`.

    Raises:
      LaunchError: the file does not exist, fails, or returns no JobSpec.
    """
    if not path.is_file():
        raise LaunchError(f"{path}: no such file; see launch/examples")
    spec = importlib.util.spec_from_file_location("launch_description", path)
    if spec is None or spec.loader is None:
        raise LaunchError(f"{path}: a description is a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        job = module.get_job()
    except LaunchError as error:
        raise LaunchError(f"{path}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise LaunchError(f"{path}: {type(error).__name__}: {reason}") from error
    if not isinstance(job, JobSpec):
        raise LaunchError(f"{path}: get_job() returns {type(job).__name__}, not a launch.JobSpec")
    return job


def _check_arguments(field: str, arguments: Any, prefix: str) -> None:
    if isinstance(arguments, str) or not all(isinstance(item, str) for item in arguments):
        raise LaunchError(f"{field} is {arguments!r}: it must be a tuple of strings")
    for item in arguments:
        if not item.startswith(prefix) or "\n" in item:
            raise LaunchError(f"{field}: {item!r} must be one line that starts with {prefix!r}")
