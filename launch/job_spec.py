"""The description of a job: the training, its hardware, and settings of each target."""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.errors import LaunchError
from launch.hardware import Cpu, Gpu, Tpu


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm:
    """Settings of sbatch.

    Attributes:
      directives: further `#SBATCH` options, like "--partition=gpu", "--time=08:00:00".
      setup: lines of bash before the training, like "module load cuda".
      process_per_gpu: start one process per GPU instead of one per node.
      cpus_per_process: cores of a process; 0 uses the cluster's default.
    """

    directives: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    process_per_gpu: bool = False
    cpus_per_process: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kubernetes:
    """Settings of the JobSet.

    Attributes:
      namespace: "" uses kubectl's default.
      claims: folder in the container -> PersistentVolumeClaim; `workdir` must be on one that all
        nodes can write.
      node_selector: labels of the nodes; None uses GKE's labels of the hardware.
    """

    namespace: str = ""
    claims: Mapping[str, str] = dataclasses.field(default_factory=dict)
    node_selector: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TpuVm:
    """Settings of gcloud.

    Attributes:
      zone: of the TPUs.
      project: "" uses gcloud's default.
      folders: folder in the container -> folder of the VM; `workdir` must be on one that all VMs
        share, by Filestore or Cloud Storage FUSE.
    """

    zone: str = ""
    project: str = ""
    folders: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A training and where it runs; each target uses the fields that apply to it.

    Attributes:
      name: of the job, its nodes and pods: lowercase letters, digits and hyphens.
      hardware: `Tpu`, `Gpu` or `Cpu`.
      config: `--config` of `ditfuse train`.
      workdir: `--workdir` of `ditfuse train`, a folder that all machines share.
      overrides: further arguments, like "--config.train.steps=9".
      imports: extensions, Python files or modules that are imported before the recipe is loaded.
      env: environment variables of the training.
      image: container image, for jobset and tpu_vm.
      repo: folder of a checkout with its environment in `.venv`, for slurm.
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
    config: str
    workdir: str
    overrides: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
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
        for field in ("config", "workdir"):
            if not getattr(self, field):
                raise LaunchError(f"{field} is empty: `ditfuse train` needs it")
        prefixes = {"overrides": "--config.", "slurm.directives": "--"}
        for field in ("overrides", "imports", "slurm.directives", "slurm.setup"):
            _check_arguments(field, self._get(field), prefixes.get(field, ""))
        for name, value in self.env.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not isinstance(value, str):
                raise LaunchError(
                    f"env {name!r}: {value!r}: it must map a variable's name to a string"
                )
        for field in "kubernetes.claims", "tpu_vm.folders":
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

    @property
    def arguments(self) -> list[str]:
        """The arguments of `ditfuse`."""
        imports = [f"--import={name}" for name in self.imports]
        fixed = ["train", "--config", self.config, "--workdir", self.workdir]
        return [*fixed, *imports, *self.overrides]

    def _get(self, field: str) -> Any:
        value = self
        for name in field.split("."):
            value = getattr(value, name)
        return value


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
