"""A command on a lab host runs as ``podman exec`` would run it, and never on this machine itself."""

import dataclasses
import json
import os
import signal
import socket
import subprocess

import pytest

from lab import Host, Lab, LabError, inside
from lab.network import port_to_publish
from lab.podman import exec_command, podman

# What a process sees of itself. The soft limit of open files is left out: runc 1.1 sometimes sets it to the hard limit.
SEEN = """
tr '\\0' '\\n' </proc/$$/environ | sort
sed -E 's/^(Max open files) +[0-9]+ +/\\1 /' /proc/$$/limits
grep -E '^(Uid|Gid|Groups|Umask|Cap|NoNewPrivs|Seccomp|Sig(Blk|Ign)|Cpus_allowed|Mems_allowed):?' /proc/self/status
cat /proc/$$/cgroup /proc/$$/oom_score_adj
readlink /proc/$$/cwd /proc/$$/root /proc/$$/ns/*
ls /proc/$$/fd
if [ -p /proc/$$/fd/0 ]; then cat; else readlink /proc/$$/fd/0; fi
[ -p /proc/$$/fd/1 ] && [ -p /proc/$$/fd/2 ]
set -- $(cut -d')' -f2 /proc/$$/stat)
echo "parent $2, group leader $(($3 == $$)), session leader $(($4 == $$)), terminal $5, nice ${17}"
"""
VALUES = {"PLAIN": "a", "ODD": "a 'b' \"c\" $d %e\\\n=\u00e4 ", "EMPTY": "", "PATH": "/usr/bin:/bin"}


def by_podman(host: Host, *argv: str, env=None, input: str | None = None) -> tuple[int, str]:
    """Run a command as podman does; return its exit code and its output."""
    command, environment = exec_command(host.name, argv, env, stdin=input is not None)
    done = subprocess.run(command, env=environment, input=input, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def by_lab(host: Host, *argv: str, **options) -> tuple[int, str]:
    """Run a command as the lab does; return its exit code and its output."""
    done = host.run(*argv, check=False, **options)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def bare(suite):
    """A bare host."""
    with Lab.temporary(f"entered-{suite}") as lab:
        yield lab.boot("dev", suite)


@pytest.mark.parametrize("input", [None, "", "a line\n"], ids=["no input", "an empty input", "an input"])
@pytest.mark.parametrize("env", [None, VALUES], ids=["no variables", "variables"])
def test_a_command_has_what_podman_gives_it(bare, env, input):
    code, seen = by_podman(bare, "sh", "-euc", SEEN, env=env, input=input)
    assert (code, seen.count("\n") > 40) == (0, True)
    same, ours = by_lab(bare, "sh", "-euc", SEEN, env=env, input=input)
    assert ours.splitlines() == seen.splitlines()
    assert same == 0


@pytest.mark.alike
@pytest.mark.parametrize(
    "argv",
    [
        ("true",),
        ("sh", "-c", "exit 3"),
        ("sh", "-c", "kill -TERM $$"),
        ("sh", "-c", "kill -KILL $$"),
        ("sh", "-c", "kill -KILL 0"),
        ("absent",),
        ("/etc/passwd",),
        ("sh", "-c", "sleep 300 & echo left"),
        ("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo error >&2"),
    ],
    ids=" ".join,
)
def test_a_command_ends_as_podmans_does(bare, argv):
    assert by_lab(bare, *argv) == by_podman(bare, *argv)


@pytest.mark.alike
@pytest.mark.parametrize(("script", "characters"), [("cat", None), ("head -c 1", 1)])
def test_a_command_reads_as_much_as_it_likes(bare, script, characters):
    """podman 4.3 sometimes loses the output of a command that reads only part of its input: it is not compared."""
    text = "0123456789\n" * 100_000
    assert by_lab(bare, "sh", "-c", script, input=text) == (0, text[:characters])


@pytest.mark.parametrize(
    ("limit", "script"),
    [("TasksMax=3", "sleep 1 & sleep 1 & sleep 1 & wait"), ("MemoryMax=50M", "perl -e '$x = q(x) x 200_000_000'")],
)
def test_a_hosts_systemd_enforces_limits(bare, limit, script):
    """A host without control groups of its own accepts each limit and enforces none."""
    scope = ("systemd-run", "--quiet", "--scope", "--property=MemorySwapMax=0")
    assert by_lab(bare, *scope, "sh", "-c", script)[0] == 0
    assert by_lab(bare, *scope, f"--property={limit}", "sh", "-c", script)[0] != 0


def test_a_hosts_control_groups_hold_no_other_hosts_units(bare):
    """Otherwise one host's end would remove the control groups that another host's commands join."""
    assert "/.." not in by_lab(bare, "cat", "/proc/1/cgroup", "/proc/self/cgroup")[1]


@pytest.mark.alike
def test_nothing_is_left_of_a_host_whose_port_is_taken(suite):
    with Lab.temporary(f"port-{suite}") as lab, socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(LabError, match="address already in use"):
            lab.boot("dev", suite, port=server.getsockname()[1])
        assert lab.hosts() == []


@pytest.mark.alike
def test_what_a_killed_run_left_is_removed_by_the_next_one_and_by_no_other(suite):
    with Lab.temporary(f"left-{suite}") as left:
        with pytest.raises(LabError, match=f"{left.name}: another run in .* has this lab; wait for its end"):
            Lab.temporary(f"left-{suite}")
        assert podman("network", "exists", left.network, check=False).returncode == 0
        # The kernel removes a lock when its process ends.
        left.lock.close()
        with Lab.temporary(f"left-{suite}") as lab:
            assert (lab.name, lab.network) == (left.name, left.network)
        assert podman("network", "exists", left.network, check=False).returncode == 1


@pytest.mark.alike
def test_a_port_that_still_leads_to_a_killed_host_is_given_to_no_other(suite):
    with Lab.temporary(f"killed-{suite}") as lab:
        with port_to_publish(None) as port:
            host = lab.boot("dev", suite, port=port)
        state = json.loads(podman("inspect", "--format", "{{json .State}}", host.name).stdout)
        for pid in (state["ConmonPid"], state["Pid"]):
            os.kill(pid, signal.SIGKILL)
        with port_to_publish(None) as other:
            assert other != port
        with pytest.raises(LabError, match=f"port {port} is the container {host.name}'s"), port_to_publish(port):
            pass
        host.remove()
        assert lab.hosts() == []


@pytest.mark.alike
def test_no_value_is_on_a_command_line(bare):
    code, titles = by_lab(bare, "sh", "-c", "cat /proc/[0-9]*/cmdline", env={"SECRET": "canary-4711"})
    assert code == 0
    assert "canary-4711" not in titles
    entry = inside.way_into(bare.name)
    assert "canary-4711" not in " ".join(entry.command(["true"]))


@pytest.mark.alike
def test_a_host_that_was_started_again_is_entered_anew_and_one_that_is_off_not_at_all(bare):
    before = inside.way_into(bare.name)
    assert before.open
    podman("stop", "--time", "120", bare.name)
    assert not before.open
    with pytest.raises(LabError, match=bare.name):
        bare.run("true", check=False)
    # A way that was known before is not used either: its process is gone, and its number may be another process's.
    for way in (before, dataclasses.replace(before, groups=())):
        late = subprocess.run(way.command(["hostname"]), capture_output=True, text=True, check=False)
        assert late.returncode != 0
        assert (late.stdout, "cannot" in late.stderr) == ("", True)
    podman("start", bare.name)
    assert bare.wait() == "running"
    assert bare.run("hostname").stdout == "dev\n"
    assert inside.way_into(bare.name) is not before
