"""supervisor runs the processes, and only root can command it."""

import datetime
import json
import re

import pytest

# A process flaps if it ended this often within these seconds and has not been up for two minutes.
WINDOW, ENDS, YOUNG = 600, 3, ("0:00:", "0:01:")

ASK = """
import json, socket
try:
    socket.socket(socket.AF_UNIX).connect("/run/supervisor.sock")
    print(json.dumps("connected"))
except OSError as error:
    print(json.dumps(type(error).__name__))
"""


@pytest.fixture(scope="module", autouse=True)
def app_role(roles):
    if "app" not in roles:
        pytest.skip("the host does not have the role app")


def test_it_runs_now_and_at_every_boot(host):
    assert host.service("supervisor").is_running
    assert host.service("supervisor").is_enabled


def test_the_socket_is_roots(host, python, apps):
    socket = host.file("/run/supervisor.sock")
    assert (socket.user, socket.group, socket.mode) == ("root", "root", 0o700)
    assert python(ASK) == "connected"
    for user in ("nobody", *apps):
        assert python(ASK, user=user) == "PermissionError", user


def test_it_has_no_tcp_port(host):
    assert "supervisord" not in host.check_output("ss -Hltnp")


def test_every_process_is_one_that_is_declared(host, apps):
    from verify.declared import processes

    status = [line.split() for line in host.run("supervisorctl status").stdout.splitlines()]
    current = {app: host.check_output("readlink /srv/apps/%s/current", app).removeprefix("releases/") for app in apps}
    declared = {f"{app}.v{current[app]}.{process}" for app, one in apps.items() for process in processes(one)}
    assert {(words[0], words[1]) for words in status} == {(name, "RUNNING") for name in declared}


def test_no_process_ends_again_and_again(host):
    own = "_UID=0 _SYSTEMD_UNIT=supervisor.service SYSLOG_IDENTIFIER=supervisord"
    said = host.check_output(f"journalctl -q -o short-unix --since -{WINDOW}s {own}")
    ends = re.findall(r"^(\d+\.\d+) .* exited: (\S+) \(([^;]*);", said, re.MULTILINE)
    flaps = []
    for line in host.run("supervisorctl status").stdout.splitlines():
        name, state, *_, up = line.split()
        own = [(float(written), how) for written, ended, how in ends if ended == name]
        is_old = state == "RUNNING" and (" day" in line or not up.startswith(YOUNG))
        if len(own) >= ENDS and not is_old:
            # A removed app that is declared again counts from v1. The ends of the earlier v1 do not count for this one.
            created = made(host, name)
            own = [how for written, how in own if written >= created]
        if len(own) >= ENDS and not is_old:
            flaps.append(f"{name} ended {len(own)} times in {WINDOW // 60} minutes, at last with {own[-1]}")
    assert flaps == []


def made(host, name):
    """Return when a process's release was made, in seconds since 1970."""
    app, number, _ = name.split(".", 2)
    release = json.loads(host.file(f"/srv/apps/{app}/releases/{number.removeprefix('v')}/release.json").content_string)
    return datetime.datetime.fromisoformat(release["created"]).timestamp()


def test_a_process_out_of_memory_takes_no_other_with_it(host):
    assert host.check_output("systemctl show supervisor --property=OOMPolicy --value") == "continue"
