"""Releases: the switch under load, interruptions, what is refused."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.podman import podman
from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.load import Load
from tests.hosts.mirrored import DOMAIN, MIRROR, colour, nothing_is_left
from tests.hosts.slow_client import Socket, download, held_upload, slow

pytestmark = pytest.mark.alike


@pytest.fixture(scope="module")
def mirror(host, lab, pillar):
    """A client of the app mirror, deployed."""
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    apply(host).succeeded()
    return Client(host.address, DOMAIN)


# An app has two slots of ports, and each release uses one of them: the first port of the second slot.
SECOND = MIRROR["port"] + 50


def colour_slot(mirror):
    """Tell whether the serving release uses the second slot."""
    return mirror.get("/healthz").json()["port"] >= str(SECOND)


def served(loads) -> None:
    """Check that every request was answered with 200, and print the load generator's figures."""
    for kind, answers in zip(("keep-alive", "no keep-alive"), loads, strict=True):
        print(f"{kind}: {answers.requests} requests, {answers.statuses}, {answers.errors}, ", end="")
        print(f"p50 {answers.p50} s, p99 {answers.p99} s")
        assert answers.errors == {}
        assert answers.statuses.keys() == {200}
    assert sum(answers.requests for answers in loads) >= 6_000


# --- The switch -------------------------------------------------------------------------------------------------------

# The config change comes after supervisor's death: it ends processes that have outlived their supervisor.
EVENTS = ("the death of supervisor", "a config change", "a new build", "a rollback", "scaling", "another grace")
EVENTS += ("a reload of nginx", "repairs")
# The processes of mirror, without its launchers.
PIDS = "pgrep -u mirror | sort"
# Breaks everything of a serving app that a converge can mend without a new release.
BROKEN = """
cd /srv/apps/mirror
rm -r builds/*/.venv
chmod 0 releases/*/env/* releases/*/release.json; chmod 777 builds releases; chown mirror releases/*
rm current; mkdir current; touch current/found
head -c 100 /dev/urandom >$(ls /etc/supervisor/conf.d/mirror.v*.conf)
echo 'server 127.0.0.1:9;' >/etc/nginx/upstreams/mirror.conf
chmod -x /usr/local/lib/saltern/process
"""
# Breaks what only a new release can mend.
LOST = """
cd /srv/apps/mirror
rm -r builds releases
ln -sfn /tmp/releases/1 current
rm /etc/supervisor/conf.d/mirror.v*.conf
"""


@pytest.mark.parametrize("event", EVENTS)
def test_no_request_fails_during(event, host, mirror, pillar, new_build, release):
    if event == "a new build":
        new_build("under load")
    number = release()
    slow = []
    load = Load(host, DOMAIN)
    thread = threading.Thread(target=lambda: slow.append(mirror.get("/slow?5").status_code))
    thread.start()
    time.sleep(0.5)
    match event:
        case "the death of supervisor":
            first = host.sh(PIDS).stdout
            host.sh(
                "pkill -9 -x supervisord; sleep 0.5; timeout 60 sh -c 'until systemctl -q is-active supervisor; do "
                "sleep 0.1; done; while supervisorctl status | grep -qv RUNNING; do sleep 0.1; done'"
            )
            assert host.sh(PIDS).stdout == first
            apply(host).changed_nothing()
            assert release() == number
        case "a config change":
            pillar.merge(app={"mirror": {"config": {"COLOUR": "green"}}})
            assert apply(host).succeeded().changed == {"app-release-mirror"}
            assert (release(), colour(mirror)) == (number + 1, "green")
        case "a new build":
            assert apply(host).succeeded().changed == {"app-build-mirror", "app-release-mirror"}
            assert release() == number + 1
        case "a rollback":
            host.salt("release.rollback", "mirror", "force=True")
            assert release() == number - 1
            apply(host).changed_nothing()
            host.salt("release.unhold", "mirror")
            apply(host).succeeded()
            assert release() == number + 1
        case "scaling":
            for web in (4, 1, 2):
                pillar.merge(app={"mirror": {"formation": {"web": web}}})
                apply(host).succeeded()
            assert release() == number
        case "another grace":
            pillar.merge(app={"mirror": {"grace": {"web": 20}}})
            assert apply(host).succeeded().changed == {"app-release-mirror"}
            assert release() > number
        case "a reload of nginx":
            pillar.merge(nginx={"gzip": False})
            assert apply(host).succeeded().changed == {"nginx-config"}
            host.salt("app.maintenance", "mirror", "on", "allow=0.0.0.0/0")
            pillar.merge(nginx={"gzip": None})
            apply(host).succeeded()
            host.salt("app.maintenance", "mirror", "off")
        case "repairs":
            for script, following in ((BROKEN, number), (LOST, number + 1)):
                host.sh(script)
                dry, real = apply(host, "test=True").changed, apply(host).succeeded().changed
                assert (
                    dry
                    == real
                    == {"app-build-mirror", "app-release-mirror"} | ({"app-process"} if script == BROKEN else set())
                )
                assert release() == following
            apply(host).changed_nothing()
    thread.join()
    assert slow == [200], "a request that was in flight"
    served(load.finish())


def test_what_takes_long_is_answered_by_the_release_that_took_it(host, mirror, pillar, release):
    pillar.merge(app={"mirror": {"in_flight": {"streams": 2}}})
    number, second = release(), colour_slot(mirror)
    over = threading.Event()

    def switched():
        """Let the upload end 12 s after the new release serves."""
        deadline = time.monotonic() + 120
        while colour_slot(mirror) == second and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(12)
        over.set()

    with ThreadPoolExecutor() as pool, Socket(host.address, DOMAIN) as socket:
        taken = [
            pool.submit(held_upload, host.address, DOMAIN, 3_000_000, over),
            pool.submit(slow, host.address, DOMAIN, 14),
            pool.submit(download, host.address, DOMAIN, 100),
        ]
        assert socket.echoes("before")
        pool.submit(switched)
        time.sleep(1)
        pillar.merge(app={"mirror": {"config": {"COLOUR": "long"}}})
        applied = apply(host).succeeded()
        assert not socket.echoes("after")
    uploaded, answered, downloaded = (each.result() for each in taken)
    assert [uploaded.status, answered.status, downloaded.status] == [200] * 3
    assert (uploaded.count, downloaded.count) == (3_000_000, 100_000_000)
    assert {uploaded.port >= SECOND, answered.port >= SECOND} == {second}
    cut = "1 stream cut off, not ended in 2 s (app.mirror.in_flight.streams)"
    assert applied.states["app-release-mirror"]["comment"] == f"v{number + 1} serves\nv{number}: {cut}"
    logged = [line for line in host.salt("release.log", "mirror") if line["event"] == "cut off"]
    assert (logged[-1]["release"], logged[-1]["what"]) == (f"v{number}", cut)
    # The worker did not wait for those requests: it ended long before web.1.
    ends = {
        name: float(when)
        for when, name in re.findall(
            rf"^([\d.]+) .* stopped: mirror\.v{number}\.(\S+) ",
            host.sh("journalctl -q -o short-unix -t supervisord").stdout,
            re.MULTILINE,
        )
    }
    assert ends["worker.1"] + 5 < ends["web.1"]
    nothing_is_left(host)


def test_a_request_that_outlasts_its_time_is_cut_off_and_told(host, mirror, pillar, release):
    pillar.merge(app={"mirror": {"site": {"timeout": 2}, "in_flight": {"requests": 2}}})
    apply(host).succeeded()
    number = release()
    over = threading.Event()
    with ThreadPoolExecutor() as pool:
        uploaded = pool.submit(held_upload, host.address, DOMAIN, 1_000_000, over)
        time.sleep(1)
        pillar.merge(app={"mirror": {"config": {"COLOUR": "short"}}})
        try:
            applied = apply(host).succeeded()
        finally:
            over.set()
    said = applied.states["app-release-mirror"]["comment"]
    assert (
        said == f"v{number + 1} serves\nv{number}: 1 request cut off, not ended in 2 s (app.mirror.in_flight.requests)"
    )
    assert uploaded.result().status == 502
    pillar.merge(app={"mirror": {"site": None, "in_flight": None}})
    apply(host).succeeded()


# --- Interruption -----------------------------------------------------------------------------------------------------

STEPS = ("clear", "stage", "release", "start", "health", "contract", "succeed", "switch", "running")
STEPS += ("point", "workers", "drain", "stop", "prune")
RELEASES = "salt/_utils/saltern/releases"
STEP = "            step(move)\n"
IMPORTS = "import contextlib\nimport time\n"


def with_line(text, line):
    """Return the module that takes the steps, with a line added before each step; the line may use os."""
    return text.replace(IMPORTS, f"import os\n{IMPORTS}").replace(STEP, line + STEP)


def test_the_steps_are_the_ones_that_are_interrupted_here(tree):
    text = (tree / RELEASES / "steps.py").read_text()
    table = text.partition("\nDEPLOY: Steps = {\n")[2].partition("\n}\n")[0]
    assert tuple(re.findall(r'^    "(\w+)": ', table, re.MULTILINE)) == STEPS
    taking = (tree / RELEASES / "take.py").read_text()
    assert (taking.count(STEP), taking.count(IMPORTS)) == (1, 1)


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_is_killed_is_completed_by_the_next_one_at(step, host, mirror, pillar, edited, tree):
    pillar.merge(app={"mirror": {"config": {"COLOUR": f"killed at {step}"}, "order": {"worker": "stop-first"}}})
    module = tree / RELEASES / "take.py"
    text = module.read_text()
    module.write_text(with_line(text, f"            os.kill(os.getpid(), 9) if name == {step!r} else None\n"))
    done = host.run("salt-call", "state.apply", check=False)
    module.write_text(text)
    assert done.returncode == 137
    assert mirror.get("/healthz").status_code == 200
    nothing_is_left(host)
    assert colour(mirror) == f"killed at {step}"


@pytest.mark.parametrize("step", STEPS)
def test_a_host_that_loses_its_power_serves_again_after_boot_at(step, host, mirror, pillar, tree, release):
    # Where web is stop-first too, the old processes have ended at these steps.
    order = {"worker": "stop-first"} | ({"web": "stop-first"} if step in ("switch", "running") else {"web": None})
    pillar.merge(app={"mirror": {"config": {"COLOUR": f"off at {step}"}, "order": order}})
    module = tree / RELEASES / "take.py"
    text = module.read_text()
    wait = f"            open('/run/at-step', 'w').close() or time.sleep(600) if name == {step!r} else None\n"
    module.write_text(with_line(text, wait))
    run = threading.Thread(target=lambda: host.run("salt-call", "state.apply", check=False))
    run.start()
    host.sh("timeout 120 sh -c 'until [ -e /run/at-step ]; do sleep 0.1; done'")
    podman("kill", "--signal", "KILL", host.name)
    run.join()
    module.write_text(text)
    podman("start", host.name)
    host.wait()
    # Only the processes of the serving release start.
    alone = f"mirror.v{release()}.conf"
    assert host.sh("ls /etc/supervisor/conf.d | grep ^mirror").stdout.split() == [alone]
    deadline = time.monotonic() + 60
    # Its worker too, which the release may have ended to start its own.
    worker = f"supervisorctl status mirror.v{release()}.worker.1 | grep -q RUNNING"
    while mirror.get("/healthz").status_code != 200 or host.run("sh", "-c", worker, check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    nothing_is_left(host)
    assert colour(mirror) == f"off at {step}"


def test_a_run_that_is_told_to_end_leaves_one_release_running(host, mirror, pillar, edited, tree, release):
    module = tree / RELEASES / "take.py"
    text = module.read_text()
    for step, number, is_new in (("health", 15, False), ("running", 1, False), ("drain", 2, True)):
        before = release()
        pillar.merge(app={"mirror": {"config": {"COLOUR": f"ended at {step}"}}})
        told = f"            os.kill(os.getpid(), {number}) if name == {step!r} else None\n"
        module.write_text(with_line(text, told))
        done = host.run("salt-call", "state.apply", check=False)
        module.write_text(text)
        name = {15: "SIGTERM", 1: "SIGHUP", 2: "SIGINT"}[number]
        assert done.returncode == 128 + number
        assert f"salt-call: ended by {name}\n" in done.stderr
        now = release()
        assert (now > before) is is_new
        assert host.sh("ls /etc/supervisor/conf.d | grep ^mirror").stdout.split() == [f"mirror.v{now}.conf"]
        running = host.sh("supervisorctl status | awk '/^mirror/ {print $1}'").stdout.split()
        assert {name.rpartition(".v")[2].partition(".")[0] for name in running} == {str(now)}
        assert mirror.get("/healthz").status_code == 200
        if not is_new:
            last = host.salt("release.log", "mirror")[-1]
            assert last["event"] == f"refused (from v{before})"
            assert f"was refused at the step {step}: the run was ended by {name}; v{before} goes on" in last["what"]
    nothing_is_left(host)


def test_of_two_converges_at_once_one_says_that_the_other_runs(host, mirror, pillar):
    pillar.merge(app={"mirror": {"config": {"COLOUR": "twice"}}})
    script = """
        salt-call state.apply --retcode-passthrough >/tmp/first 2>&1 & first=$!
        sleep 1
        salt-call state.apply --retcode-passthrough >/tmp/second 2>&1; second=$?
        wait $first; echo $? $second
    """
    codes = host.run("sh", "-c", script).stdout.split()
    assert codes[0] == "0", host.sh("cat /tmp/first").stdout
    assert codes[1] != "0"
    assert 'The function "state.apply" is running as PID' in host.sh("cat /tmp/second").stdout
    nothing_is_left(host)


# --- Refusal ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", ["releases", "builds"])
def test_a_full_disk_leaves_the_serving_release_as_it_is(directory, host, mirror, pillar, new_build, release):
    number, shade, path = release(), colour(mirror), f"/srv/apps/mirror/{directory}"
    host.sh(f"cp -a {path} /root/saved; mount -t tmpfs -o size=60k,mode=750 tmpfs {path}; chgrp mirror {path}")
    if directory == "releases":
        host.sh(f"cp -a /root/saved/{number} {path}/")
        pillar.merge(app={"mirror": {"config": {"LONG": "x" * 100_000}}})
    else:
        new_build("too large for this disk")
    try:
        failed = apply(host).failed
        state, said = {
            "releases": ("app-release-mirror", "No space left on device"),
            "builds": (
                "app-build-mirror",
                f"{path} has 0 MB free beside a reserve of 256 MB; free some, or keep fewer",
            ),
        }[directory]
        assert said in failed[state]
        assert mirror.get("/healthz").status_code == 200
        assert colour(mirror) == shade
    finally:
        host.sh(f"umount {path}; rm -r /root/saved")
    assert release() == number
    pillar.merge(app={"mirror": {"config": {"LONG": None}}})
    nothing_is_left(host)


# --- Processes --------------------------------------------------------------------------------------------------------
