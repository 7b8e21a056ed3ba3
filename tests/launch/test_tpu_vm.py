"""TPU VMs: the calls of gcloud, and the commands on the hosts."""

import subprocess

import pytest

from launch import TpuVm, tpu_vm
from launch.commands import run, show

# Runs the command in a shell, as ssh does on a host.
GCLOUD = """
for item in sys.argv[1:]:
    if item.startswith("--command="):
        sys.exit(subprocess.run(["/bin/bash", "-c", item.removeprefix("--command=")]).returncode)
"""


@pytest.fixture
def hosts(fakes):
    """A fake gcloud whose only host is this machine, with fakes of sudo and docker."""
    fakes.add("gcloud", GCLOUD)
    fakes.add("sudo", "sys.exit(subprocess.run(sys.argv[1:]).returncode)")
    fakes.add("docker", "sys.exit(sys.argv[1] == 'rm')")  # there was no container
    return fakes


def options(arguments: list[str]) -> dict[str, str]:
    given = [item[2:] for item in arguments if item.startswith("--") and "=" in item]
    return dict(item.split("=", 1) for item in given)


@pytest.mark.processes
def test_arguments_and_variables_reach_the_training_unchanged(hosts, tpu_job, nasty):
    assert run(tpu_vm.run(tpu_job(**nasty))) == 0
    _, removed, arguments = hosts.calls("docker")
    assert removed == ["rm", "run"]
    image = arguments.index("image:tpu")
    assert arguments[image + 1 :] == [
        *("train", "--config", "small", "--workdir", nasty["workdir"]),
        *nasty["overrides"],
    ]
    before = arguments[:image]
    assert {f"--env={name}={value}" for name, value in nasty["env"].items()} <= set(before)
    assert "--volume=/mnt/shared:/shared" in before
    assert "--entrypoint=ditfuse" in before
    assert before[:2] == ["run", "--detach"]


def test_every_host_of_every_slice_runs_the_command(tpu_job):
    for action in (tpu_vm.run, tpu_vm.status, tpu_vm.stop):
        for slices, nodes in (1, ["run"]), (3, ["run-0", "run-1", "run-2"]):
            calls = [list(command.argv) for command in action(tpu_job(slices=slices))]
            assert [call[:6] for call in calls] == [
                ["gcloud", "compute", "tpus", "tpu-vm", "ssh", node] for node in nodes
            ]
            assert all(options(call)["worker"] == "all" for call in calls)
            assert all(options(call)["zone"] == "here-a" for call in calls)


@pytest.mark.processes
def test_a_stopped_container_gets_time_to_save(hosts, tpu_job):
    job = tpu_job(grace_seconds=240)
    run(tpu_vm.run(job))
    assert options(hosts.calls("docker")[-1])["stop-timeout"] == "240"
    run(tpu_vm.stop(job))
    assert hosts.calls("docker")[-1] == ["stop", "run"]


@pytest.mark.processes
def test_status_shows_the_container_and_the_end_of_its_log(hosts, tpu_job):
    run(tpu_vm.status(tpu_job()))
    shown, logs = hosts.calls("docker")
    assert shown == ["ps", "--all", "--filter", "name=^run$", "--format", "{{.Status}}"]
    assert logs == ["logs", "--tail", "5", "run"]


@pytest.mark.processes
def test_a_running_training_is_not_started_twice(hosts, tpu_job):
    """It is not a failure: the next hosts are still started."""
    hosts.add("docker", "print('0123abc')")
    assert run(tpu_vm.run(tpu_job(slices=2))) == 0
    assert [call[:2] for call in hosts.calls("docker")] == [["ps", "--quiet"]] * 2


@pytest.mark.parametrize(
    ("kind", "topology", "shape", "runtime"),
    [
        ("v5e", "4x8", {"accelerator-type": "v5litepod-32"}, "v2-alpha-tpuv5-lite"),
        ("v6e", "16x16", {"accelerator-type": "v6e-256"}, "v2-alpha-tpuv6e"),
        ("v5p", "4x4x8", {"type": "v5p", "topology": "4x4x8"}, "v2-alpha-tpuv5"),
    ],
)
def test_slices_are_requested_by_googles_names(tpu_job, kind, topology, shape, runtime):
    expected = shape | {"runtime-version": runtime, "zone": "here-a"}
    (one,) = tpu_vm.create(tpu_job(kind, topology))
    assert one.argv[:6] == ("gcloud", "compute", "tpus", "queued-resources", "create", "run")
    assert options(list(one.argv)) == expected | {"node-id": "run"}
    (two,) = tpu_vm.create(tpu_job(kind, topology, slices=2, spot=True))
    assert options(list(two.argv)) == expected | {"node-count": "2", "node-prefix": "run"}
    assert "--spot" in two.argv


def test_the_rights_of_the_machines_and_further_options_are_requested(tpu_job):
    vm = TpuVm(zone="here-a", service_account="a@b", options=("--reserved", "--network=mine"))
    (made,) = tpu_vm.create(tpu_job(workdir="gs://bucket/run", tpu_vm=vm))
    given = options(list(made.argv))
    assert (given["service-account"], given["network"]) == ("a@b", "mine")
    assert "--reserved" in made.argv


@pytest.mark.processes
def test_a_run_in_a_bucket_needs_no_folder_and_copies_its_data_first(hosts, tpu_job):
    for program in "install", "mkdir":
        hosts.add(program)
    hosts.add("gcloud", GCLOUD)
    job = tpu_job(
        workdir="gs://bucket/run",
        staged={"/mnt/my photos": "gs://bucket/photos"},
        tpu_vm=TpuVm(zone="here-a"),
    )
    assert run(tpu_vm.run(job)) == 0
    arguments = hosts.calls("docker")[-1]
    assert "--volume=/mnt/my photos:/mnt/my photos" in arguments
    assert arguments[arguments.index("--workdir") + 1] == "gs://bucket/run"
    assert hosts.calls("install")[0][-1] == "/mnt/my photos"
    copied = [call for call in hosts.calls("gcloud") if call[0] == "storage"]
    assert copied == [["storage", "rsync", "--recursive", "gs://bucket/photos", "/mnt/my photos"]]


@pytest.mark.processes
def test_without_its_data_the_training_is_not_started(hosts, tpu_job):
    for program in "install", "mkdir":
        hosts.add(program)
    hosts.add("gcloud", GCLOUD + "sys.exit(9)")
    assert run(tpu_vm.run(tpu_job(staged={"/mnt/photos": "gs://bucket/gone"}))) == 9
    assert "run" not in [call[0] for call in hosts.calls("docker")]


@pytest.mark.processes
def test_each_call_is_shown_as_a_line_of_bash(tpu_job, nasty, capsys, hosts):
    planned = tpu_vm.run(tpu_job(slices=2, **nasty))
    show(planned)
    subprocess.run(["/bin/bash", "-c", capsys.readouterr().out], check=True)
    shown = hosts.calls("docker")
    hosts.log.unlink()
    run(planned)
    assert hosts.calls("docker") == shown
