"""Processes: each line of a Procfile gets SIGTERM in the same way, and everything that a process started ends with it.

``lines`` (tests/apps/lines) has a process type for each way to write a line. Each writes down the signals that it gets.
"""

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.podman import podman
from tests.hosts.applied import apply
from tests.hosts.client import Client, streams
from tests.hosts.conftest import ROOT

pytestmark = pytest.mark.alike

DOMAIN = "lines.localhost"
TYPES = [line.partition(":")[0] for line in (ROOT / "tests/apps/lines/Procfile").read_text().splitlines()]
# A job takes longer than any time limit except the declared grace.
JOB = 3
LINES = {
    "port": 8400,
    "domains": [DOMAIN],
    "formation": dict.fromkeys(TYPES, 1),
    "grace": dict.fromkeys(TYPES, 30) | {"stubborn": 1, "many": 1, "chain": 1},
    "health": {"path": "/", "settle": 1},
    "config": {"JOB": str(JOB)},
    "limits": {
        "tasks": 300,
        "processes": {"hungry": {"memory": "64m"}, "many": {"tasks": 40, "cpu": "50%"}, "chain": {"cpu": "20%"}},
    },
}
TOLD = "/var/tmp/lines.log"
# Opens connections, prints how many it got, and keeps them open.
HOLD = """
import socket, sys, time
held = []
for number in range(int(sys.argv[1])):
    try:
        held.append(socket.create_connection((("127.0.0.1", "::1")[number % 2], int(sys.argv[2])), 5))
    except OSError:
        pass
print(len(held), flush=True)
time.sleep(600)
"""
# Asks PostgreSQL and Redis over new connections.
ASK = """
import os, psycopg, redis
print(psycopg.connect(os.environ["DATABASE_URL"]).execute("SELECT 1").fetchone(),
      redis.Redis.from_url(os.environ["REDIS_URL"]).ping())
"""
# Types that write nothing down: they wait for a signal and have no job.
SILENT = {"web", "asleep", "stubborn", "hungry", "many", "chain"}
EACH = {f"{kind} job": 1 for kind in TYPES if kind not in SILENT | {"pool"}}
EACH |= {"pool parent": 1, "pool child 0": 1, "pool child 1": 1}


@pytest.fixture(scope="module")
def lines(host, lab, pillar):
    """A client of the app lines, deployed."""
    lab.build(ROOT / "tests/apps/lines", host.python)
    pillar.merge(app={"lines": LINES})
    apply(host).succeeded()
    yield Client(host.address, DOMAIN)
    host.sh(f"rm -f {TOLD}")


def begun(host):
    """Wait until each job has begun, and delete what was written down before."""
    wanted = sum(EACH.values()) - 1
    host.sh(f"timeout 60 sh -c 'until [ $(grep -c begins {TOLD}) -ge {wanted} ]; do sleep 0.2; done'; rm {TOLD}")


def told(host):
    """Count the signals and the finished jobs that each process has written down since."""
    said = Counter(line for line in host.sh(f"cat {TOLD}").stdout.splitlines() if not line.endswith("begins"))
    return {
        "told": {who: said[f"{who}: SIGTERM 1"] for who in EACH},
        "told again": {who: said[f"{who}: SIGTERM 2"] for who in EACH if said[f"{who}: SIGTERM 2"]},
        "done": {who: said[f"{who}: done after 1"] for who in EACH},
    }


ONCE = {"told": EACH, "told again": {}, "done": EACH}


def program(host, kind):
    """Return supervisor's name of a process."""
    return f"lines.v{host.sh('readlink /srv/apps/lines/current').stdout.strip().removeprefix('releases/')}.{kind}.1"


def log(host, kind, lines=20):
    """Return what a process has logged last."""
    return host.run("journalctl", "-q", "-o", "cat", "-n", str(lines), "-t", f"lines[{kind}.1]").stdout


def supervisor_dies(host, client):
    """Kill supervisord during a release, after the old workers got SIGTERM and while a request is still in flight."""
    held = threading.Thread(target=lambda: client.session.get(f"{client.base}/held", timeout=120))
    try:
        held.start()
        wait = f"timeout 60 sh -c 'until grep -q SIGTERM {TOLD}; do sleep 0.1; done'"
        host.sh(f"{wait}; kill -9 $(supervisorctl pid)")
        stopped = f"[ $(supervisorctl status | grep -c '^lines.* STOPPED ') -eq {len(TYPES) - 1} ]"
        host.sh(f'timeout 60 sh -c "until {stopped}; do sleep 0.2; done"'.replace("$", "\\$"))
    finally:
        host.sh("touch /var/tmp/lines.go")
        held.join()
        host.sh("rm /var/tmp/lines.go")


def away_meanwhile(host, client):
    """Converge, and ask meanwhile: nginx answers from the end of the old process until the new one is healthy."""
    before, answers, pages = client.get("/").text, [], []
    with ThreadPoolExecutor() as pool:
        released = pool.submit(apply, host)
        while not released.done():
            answers.append(client.get("/"))
            pages.append(client.get("/", headers={"Accept": "application/json"}))
    (after,) = {each.text for each in answers if each.ok} - {before}
    served = [each.text if each.ok else each.status_code for each in answers]
    assert served == sorted(served, key=[before, 503, after].index)
    assert {each.headers["Retry-After"] for each in answers + pages if not each.ok} == {"10"}
    page = next(each.text for each in answers if not each.ok)
    assert all(each.json()["detail"] in page for each in pages if not each.ok)
    return released.result().succeeded()


EVENTS = ["a release", "a release in which supervisor dies", "a restart of supervisor", "a reboot"]


@pytest.mark.parametrize("event", EVENTS)
def test_sigterm_and_grace_mean_the_same_for_every_line_at(event, host, lines, pillar):
    begun(host)
    if event == "a release":
        order = dict.fromkeys(("plain", "web"), "stop-first")
        pillar.merge(app={"lines": {"config": {"COLOUR": "red"}, "order": order}})
        applied = away_meanwhile(host, lines)
        assert applied.changed == {"nginx-config", "app-release-lines"}
        said = r"nginx answered 503 in the place of web for [\d.]+ s \(app\.lines\.order\.web\)"
        assert re.search(said, applied.states["app-release-lines"]["comment"]), applied.states["app-release-lines"]
        said = host.sh(f"cat {TOLD}").stdout.splitlines()
        assert said.index("plain job: done after 1") < said.index("plain job: begins")
        assert said.index("exec job: begins") < said.index("exec job: SIGTERM 1")
        assert "had not ended within 1 s, killed: " in log(host, "stubborn")
    elif event == "a release in which supervisor dies":
        pillar.merge(app={"lines": {"config": {"COLOUR": "blue"}, "order": None}})
        with ThreadPoolExecutor() as pool:
            released = pool.submit(apply, host)
            supervisor_dies(host, lines)
            # The order goes where the event before was this host's too.
            assert released.result().succeeded().changed - {"nginx-config"} == {"app-release-lines"}
        apply(host).changed_nothing()
    elif event == "a restart of supervisor":
        host.run("systemctl", "restart", "supervisor")
    else:
        podman("restart", "--time", "120", host.name)
        host.wait()
    assert told(host) == ONCE


# Which process gets SIGKILL, given the PID of the launcher.
ENDS = {"its parent": "$(pgrep -o -P {})", "its launcher": "{}", "both": "$(pgrep -o -P {}) {}"}


@pytest.mark.parametrize("end", ENDS)
def test_what_a_killed_process_leaves_is_ended_before_it_starts_again(end, host, lines):
    name = program(host, "web")
    host.sh(f"timeout 30 sh -c 'until supervisorctl status {name} | grep -q RUNNING; do sleep 0.1; done'")
    # supervisor reports RUNNING before the launcher has started the process.
    deadline = time.monotonic() + 30
    while lines.get("/").status_code != 200:
        assert time.monotonic() < deadline, "it does not answer"
        time.sleep(0.2)
    started = time.time()
    before = lines.get("/").text
    launcher = host.run("supervisorctl", "pid", name).stdout.strip()
    host.sh(f"kill -9 {ENDS[end].format(launcher, launcher)}")
    deadline = time.monotonic() + 30
    while (after := lines.get("/")).status_code != 200 or after.text == before:
        assert time.monotonic() < deadline, "it answers as before"
        time.sleep(0.2)
    assert host.sh(f"ps -o pid= --ppid {before}", check=False).stdout == ""
    # The process ended once, and no start failed because the port was taken.
    said = host.run("journalctl", "-q", "-o", "cat", "-t", "supervisord", "--since", f"@{int(started)}").stdout
    assert len(re.findall(f"exited: {re.escape(name)} ", said)) == 1
    # Otherwise the third case would count as a process that keeps dying.
    host.sh("journalctl --rotate -q; journalctl --vacuum-time=1s -q")
    apply(host).changed_nothing()


@pytest.fixture
def others(host):
    """A function that returns the processes of the other apps."""
    return lambda: host.sh("supervisorctl status | grep -v ^lines | sed 's/, uptime.*//'").stdout


def signalled(host, kind):
    """Have a process take more than its share. A signal to its shell is passed on to its program."""
    host.run("supervisorctl", "signal", "USR1", program(host, kind))


def test_an_app_that_is_out_of_memory_takes_no_other_down_and_says_so(host, lines, others):
    before = others()
    signalled(host, "hungry")
    host.sh("timeout 30 sh -c 'until journalctl -q -o cat -n 5 -t lines[hungry.1] | grep -q ended; do sleep 0.2; done'")
    said = "has ended: exit status 137, out of memory: the kernel has ended 1 of its processes"
    assert said in log(host, "hungry")
    assert others() == before


def test_an_app_that_forks_without_end_takes_no_other_down(host, lines, others):
    before = others()
    signalled(host, "many")
    host.sh("timeout 30 sh -c 'until journalctl -q -o cat -n 5 -t lines[many.1] | grep -q more; do sleep 0.2; done'")
    shown = host.salt("release.show", "lines")["limits"]["processes"]
    number = program(host, "many").split(".")[1]
    many = shown[f"{number} many.1"]
    assert (many["tasks"], many["cpu"]) == ("40 of 40", "at most 0.5 processors")
    assert others() == before
    assert Client(host.address, "tickets.localhost").get("/").status_code == 200
    host.run("supervisorctl", "restart", program(host, "many"))
    assert len(host.salt("process.pids", "lines", number.removeprefix("v"), "many.1")) <= 4


def test_a_chain_of_processes_that_fork_and_end_ends(host, lines):
    name = program(host, "chain")
    begun = host.sh("date +@%s").stdout.strip()
    signalled(host, "chain")
    told = f"journalctl -q -o cat --since {begun} -t lines[chain.1] | grep -q killed"
    host.sh(f"timeout 30 sh -c 'until {told}; do sleep 0.2; done'")
    # One of the chain was killed, and none is left beside the newly started process.
    host.sh(f"timeout 30 sh -c 'until supervisorctl status {name} | grep -q RUNNING; do sleep 0.2; done'")
    assert len(host.salt("process.pids", "lines", name.split(".")[1].removeprefix("v"), "chain.1")) <= 4


@pytest.fixture
def holding(host):
    """A function that opens silent connections as the user of lines, and returns how many it got."""

    def hold(count, port):
        run = ("systemd-run", "-q", "--collect", "--unit=holding", "-p", "User=lines", "-p", "LimitNOFILE=4096")
        host.run(*run, "-p", "StandardOutput=file:/run/holding", "python3", "-c", HOLD, str(count), str(port))
        return int(host.sh("timeout 60 sh -c 'until [ -s /run/holding ]; do sleep 0.2; done'; cat /run/holding").stdout)

    yield hold
    host.sh("systemctl stop holding; rm /run/holding")


@pytest.mark.parametrize("port, allowed", [(5432, 100), (8199, 1000)], ids=["PostgreSQL", "Redis"])
def test_an_app_that_connects_and_says_nothing_keeps_nobody_out(host, lines, holding, port, allowed):
    assert holding(allowed + 500, port) == allowed
    # Other apps, the operator and the next converge still get in.
    assert host.run("tickets-run", "python", "-c", ASK).stdout == "(1,) True\n"
    assert host.run("runuser", "-u", "postgres", "--", "psql", "-XAtc", "SELECT 1").stdout == "1\n"
    assert Client(host.address, "tickets.localhost").get("/").status_code == 200
    apply(host).changed_nothing()


def test_a_supervisor_whose_restart_is_called_off_leaves_no_process(host, lines):
    left = "find /sys/fs/cgroup -name 'app-*.v*.scope' | grep -q ."
    host.sh("kill -9 $(supervisorctl pid); until systemctl show supervisor | grep -q ^SubState=auto; do :; done")
    host.run("systemctl", "stop", "supervisor")
    host.sh(f'timeout 90 sh -c "while {left}; do sleep 0.2; done"')
    host.run("systemctl", "start", "supervisor")
    host.sh("timeout 90 sh -c 'while supervisorctl status | grep -v RUNNING; do sleep 0.5; done'")
    # A running process may not listen yet.
    ask = f"curl -sf -o /dev/null -H 'Host: {DOMAIN}' http://127.0.0.1/"
    host.sh(f'timeout 90 sh -c "until {ask}; do sleep 0.5; done"')


def test_events_of_a_process_that_speaks_http_1_0_are_not_kept_back(host, lines):
    assert streams(host.address, DOMAIN, accept="text/event-stream")
    assert streams(host.address, DOMAIN, tls=True, accept="text/event-stream")


def test_clients_that_do_not_read_hold_no_process(host, lines):
    with contextlib.ExitStack() as opened:
        for _ in range(4):
            client = opened.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host.address, 80))
            client.sendall(f"GET /large HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode())
            assert client.recv(1)
        # Twice as many clients as processes that can answer.
        assert lines.get("/").status_code == 200


def test_a_domain_whose_app_has_no_web_process_is_told_so(host, lines, pillar):
    pillar.merge(app={"lines": {"formation": {"web": 0}}})
    apply(host).succeeded()
    answer = lines.get("/")
    assert (answer.status_code, answer.text) == (503, "The app of this domain has no web process.\n")


def test_nothing_is_left_of_an_app_that_is_removed(host, lines, pillar):
    pillar.merge(app={"lines": None})
    apply(host).succeeded()
    left = "ls -d /sys/fs/cgroup/*/app.slice/app-lines.slice /etc/systemd/system/app-lines*"
    assert host.sh(left, check=False).stdout == ""
    apply(host).changed_nothing()
