"""TPU VMs: gcloud's calls, and what happens on the hosts."""

import subprocess

import pytest

from launch import tpu_vm
from launch.commands import run, show

# Does on "the host" what ssh would: hands the command to a shell.
GCLOUD = """
for word in sys.argv[1:]:
    if word.startswith("--command="):
        sys.exit(subprocess.run(["/bin/bash", "-c", word.removeprefix("--command=")]).returncode)
"""


@pytest.fixture
def hosts(fakes):
    """A gcloud whose hosts are this one, with fakes of sudo and docker."""
    fakes.add("gcloud", GCLOUD)
    fakes.add("sudo", "sys.exit(subprocess.run(sys.argv[1:]).returncode)")
    fakes.add("docker", "sys.exit(sys.argv[1] == 'rm')")  # there was no container
    return fakes


def options(words: list[str]) -> dict[str, str]:
    return dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)


@pytest.mark.processes
def test_words_and_variables_reach_the_training_unharmed(hosts, tpu_job, nasty):
    assert run(tpu_vm.run(tpu_job(**nasty))) == 0
    _, removed, words = hosts.calls("docker")
    assert removed == ["rm", "run"]
    image = words.index("image:tpu")
    assert words[image + 1 :] == [
        *("train", "--config", "small", "--workdir", nasty["workdir"]),
        *nasty["overrides"],
    ]
    before = words[:image]
    assert {f"--env={name}={value}" for name, value in nasty["env"].items()} <= set(before)
    assert "--volume=/mnt/shared:/shared" in before
    assert "--entrypoint=ditfuse" in before
    assert before[:2] == ["run", "--detach"]


def test_every_host_of_every_slice_is_told(tpu_job):
    for action in (tpu_vm.run, tpu_vm.status, tpu_vm.stop):
        for slices, nodes in (1, ["run"]), (3, ["run-0", "run-1", "run-2"]):
            calls = [list(command.words) for command in action(tpu_job(slices=slices))]
            assert [call[:6] for call in calls] == [
                ["gcloud", "compute", "tpus", "tpu-vm", "ssh", node] for node in nodes
            ]
            assert all(options(call)["worker"] == "all" for call in calls)
            assert all(options(call)["zone"] == "here-a" for call in calls)


@pytest.mark.processes
def test_a_stop_gives_time_to_save(hosts, tpu_job):
    job = tpu_job(grace_seconds=240)
    run(tpu_vm.run(job))
    assert options(hosts.calls("docker")[-1])["stop-timeout"] == "240"
    run(tpu_vm.stop(job))
    assert hosts.calls("docker")[-1] == ["stop", "run"]


@pytest.mark.processes
def test_status_shows_the_container_and_its_last_words(hosts, tpu_job):
    run(tpu_vm.status(tpu_job()))
    shown, logs = hosts.calls("docker")
    assert shown == ["ps", "--all", "--filter", "name=^run$", "--format", "{{.Status}}"]
    assert logs == ["logs", "--tail", "5", "run"]


@pytest.mark.processes
def test_a_running_training_is_not_started_twice(hosts, tpu_job):
    """And that is no failure: the hosts after it get theirs."""
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
def test_slices_are_asked_for_by_googles_names(tpu_job, kind, topology, shape, runtime):
    expected = shape | {"runtime-version": runtime, "zone": "here-a"}
    (one,) = tpu_vm.create(tpu_job(kind, topology))
    assert one.words[:6] == ("gcloud", "compute", "tpus", "queued-resources", "create", "run")
    assert options(list(one.words)) == expected | {"node-id": "run"}
    (two,) = tpu_vm.create(tpu_job(kind, topology, slices=2, spot=True))
    assert options(list(two.words)) == expected | {"node-count": "2", "node-prefix": "run"}
    assert "--spot" in two.words


@pytest.mark.processes
def test_what_is_shown_is_a_line_of_bash_for_each_call(tpu_job, nasty, capsys, hosts):
    planned = tpu_vm.run(tpu_job(slices=2, **nasty))
    show(planned)
    subprocess.run(["/bin/bash", "-c", capsys.readouterr().out], check=True)
    shown = hosts.calls("docker")
    hosts.log.unlink()
    run(planned)
    assert hosts.calls("docker") == shown
