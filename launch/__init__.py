"""Starts a training on many machines: one job description for SLURM, Kubernetes or TPU VMs.

python -m launch {slurm,jobset,tpu_vm} DESCRIPTION [ACTION] [--dry-run]
"""

from launch.errors import LaunchError
from launch.hardware import Cpu, Gpu, Tpu
from launch.job_spec import JobSpec, Kubernetes, Slurm, TpuVm

__all__ = ["Cpu", "Gpu", "JobSpec", "Kubernetes", "LaunchError", "Slurm", "Tpu", "TpuVm"]
