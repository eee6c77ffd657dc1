"""Releases: the switch under load, interruptions, going back."""

import base64
import json
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.podman import podman
from lab.worktree import commit
from tests.hosts.applied import apply
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.load import Load
from tests.hosts.slow_client import Socket, download, held_upload, slow

pytestmark = pytest.mark.alike

DOMAIN = "mirror.localhost"
MIRROR = {
    "port": 8300,
    "domains": [DOMAIN],
    "formation": {"web": 2, "worker": 1},
    "health": {"grace": 30},
    # Less than an answer may take: a process is told to end when it has answered.
    "grace": {"web": 5},
    "config": {"COLOUR": "red", "SECRET": "canary-0123456789"},
}


@pytest.fixture(scope="module")
def mirror(host, lab, pillar):
    """A client of the app mirror, deployed."""
    lab.build(ROOT / "tests/apps/mirror", host.python)
    pillar.merge(app={"mirror": MIRROR})
    apply(host).succeeded()
    return Client(host.address, DOMAIN)


@pytest.fixture
def release(host):
    """A function that returns the number of mirror's current release."""
    return lambda: int(host.sh("readlink /srv/apps/mirror/current").stdout.strip().removeprefix("releases/"))


@pytest.fixture
def new_build(host, lab, tmp_path):
    """A function that declares a build of mirror whose code is another."""

    def make(text: str, **files: str) -> None:
        code = tmp_path / re.sub(r"\W", "-", text) / "mirror"
        shutil.copytree(ROOT / "tests/apps/mirror", code)
        with (code / "mirror.py").open("a") as stream:
            stream.write(f"\n# {text}\n")
        for name, content in files.items():
            path = code / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".py").write_text(content)
        commit(code)
        lab.build(code, host.python)

    return make


def colour(mirror):
    """Return the value of a variable, as the app has it."""
    return base64.b64decode(mirror.get("/environ").json()["environ"]["COLOUR"]).decode()


# The first port of the second of the two slots, of which each release has one.
SECOND = MIRROR["port"] + 50


def colour_slot(mirror):
    """Tell whether the release that serves has its ports in the second slot."""
    return mirror.get("/healthz").json()["port"] >= str(SECOND)


def served(loads) -> None:
    """Be sure that each request was answered, and show the load generator's figures."""
    for kind, answers in zip(("keep-alive", "no keep-alive"), loads, strict=True):
        print(f"{kind}: {answers.requests} requests, {answers.statuses}, {answers.errors}, ", end="")
        print(f"p50 {answers.p50} s, p99 {answers.p99} s")
        assert answers.errors == {}
        assert answers.statuses.keys() == {200}
    assert sum(answers.requests for answers in loads) >= 20_000


# --- The switch -------------------------------------------------------------------------------------------------------

# The config change ends processes that have outlived their supervisor.
EVENTS = ("the death of supervisor", "a config change", "a new build", "a rollback", "scaling", "another grace")
EVENTS += ("a reload of nginx", "repairs")
# The processes of mirror, without its launchers.
PIDS = "pgrep -u mirror | sort"
# What is broken by hand of an app that serves, all of it at once, so that it is put right where it is.
BROKEN = """
cd /srv/apps/mirror
rm -r builds/*/.venv
chmod 0 releases/*/env/* releases/*/release.json; chmod 777 builds releases; chown mirror releases/*
rm current; mkdir current; touch current/found
head -c 100 /dev/urandom >$(ls /etc/supervisor/conf.d/mirror.v*.conf)
echo 'server 127.0.0.1:9;' >/etc/nginx/upstreams/mirror.conf
chmod -x /usr/local/lib/saltern/process
"""
# And what only another release can put right.
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
            pillar.merge(nginx={"gzip": None})
            apply(host).succeeded()
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
        """Let the upload end some seconds after the new release serves."""
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
    # Meanwhile the other processes have ended long ago.
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


ROTATED = {
    "postgres": {"databases": {"tickets": {"password": "rotated-0123456789-abcdef"}}},
    "redis": {"instances": {"tickets": {"password": "rotated-redis-0123456789"}}},
}


def test_no_job_is_lost_during_a_switch_to_other_passwords_and_back(host, pillar):
    tickets, faq = Client(host.address, "tickets.localhost"), Client(host.address, "faq.localhost")
    before = int(host.sh("readlink /srv/apps/tickets/current").stdout.strip().removeprefix("releases/"))
    numbers, stop = [], threading.Event()

    def answer():
        while not stop.is_set():
            path = tickets.submit("/tickets/new", "/tickets/new", question=f"Job {len(numbers)}?")
            tickets.submit(path, f"{path}/answer", answer="Done.")
            numbers.append(path.rpartition("/")[2])

    with ThreadPoolExecutor() as pool:
        answering = pool.submit(answer)
        try:
            time.sleep(2)
            pillar.merge(app={"tickets": {"config": {"WEB_THREADS": "5"}}}, **ROTATED)
            states = {f"redis-{state}-tickets" for state in ("users", "admitted")} | {"postgres-attachment-tickets"}
            assert apply(host).succeeded().changed == states | {
                "app-release-tickets",
                "postgres-retired",
                "redis-retired",
            }
            time.sleep(2)
            # The release of before has passwords that are closed by now, and is given those of today.
            host.salt("release.rollback", "tickets")
            apply(host).changed_nothing()
            time.sleep(1)
            host.salt("release.unhold", "tickets")
            apply(host).succeeded()
        finally:
            stop.set()
        answering.result()
    after = int(host.sh("readlink /srv/apps/tickets/current").stdout.strip().removeprefix("releases/"))
    assert after == before + 2
    assert len(numbers) > 5
    wanted = {f"tickets:{number}" for number in numbers}
    deadline = time.monotonic() + 120
    while wanted:
        assert time.monotonic() < deadline, f"{len(wanted)} of {len(numbers)} jobs are not done"
        for offset in range(0, len(numbers) + 100, 100):
            page = faq.get(f"/v1/questions?limit=100&offset={offset}").json()["questions"]
            wanted -= {question["source"] for question in page}
        time.sleep(0.2)
    pillar.merge(
        app={"tickets": {"config": {"WEB_THREADS": None}}}, postgres={"databases": None}, redis={"instances": None}
    )
    apply(host).succeeded()


# --- Interruption -----------------------------------------------------------------------------------------------------

STEPS = ("clear", "stage", "release", "start", "health", "contract", "switch", "running", "point")
STEPS += ("workers", "drain", "stop", "prune")
RELEASES = "salt/_utils/saltern/releases"
STEP = "            step(move)\n"
IMPORTS = "import contextlib\nimport time\n"


def with_line(text, line):
    """Return the module that takes the steps with a line before each; the line may call os."""
    return text.replace(IMPORTS, f"import os\n{IMPORTS}").replace(STEP, line + STEP)


def test_the_steps_are_the_ones_that_are_interrupted_here(tree):
    text = (tree / RELEASES / "steps.py").read_text()
    table = text.partition("\nDEPLOY: Steps = {\n")[2].partition("\n}\n")[0]
    assert tuple(re.findall(r'^    "(\w+)": ', table, re.MULTILINE)) == STEPS
    taking = (tree / RELEASES / "take.py").read_text()
    assert (taking.count(STEP), taking.count(IMPORTS)) == (1, 1)


def nothing_is_left(host):
    """Be sure that a converge completes, and that it and the run before it left nothing behind."""
    apply(host).succeeded()
    apply(host).changed_nothing()
    assert host.sh("find /srv/apps /etc/supervisor /etc/nginx -name '*.new' -o -path '*/releases/.*'").stdout == ""
    confs = host.sh("ls /etc/supervisor/conf.d | grep -c '^mirror'").stdout.strip()
    assert confs == "1"
    outcomes = host.sh("for n in /srv/apps/mirror/releases/*; do cat $n/outcome || echo none; done").stdout.split("\n")
    assert "none" not in outcomes


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_is_killed_is_completed_by_the_next_one_at(step, host, mirror, pillar, edited, tree):
    pillar.merge(app={"mirror": {"config": {"COLOUR": f"killed at {step}"}}})
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
    pillar.merge(app={"mirror": {"config": {"COLOUR": f"off at {step}"}}})
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
    # The processes of the release that serves start, and no others.
    alone = f"mirror.v{release()}.conf"
    assert host.sh("ls /etc/supervisor/conf.d | grep ^mirror").stdout.split() == [alone]
    deadline = time.monotonic() + 60
    while mirror.get("/healthz").status_code != 200:
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


HOLD = "import fcntl, time; file = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(file, 2); time.sleep({})"


def test_a_run_that_waits_for_apt_says_for_whom(host, mirror):
    host.sh("apt-get -qq remove less >/dev/null 2>&1")
    host.sh(f'python3 -c "{HOLD.format(8)}" >/dev/null 2>&1 & sleep 1')
    applied = apply(host).succeeded()
    assert applied.changed == {"base-packages"}
    held = r"PID \d+ \(python3\) holds /var/lib/dpkg/lock-frontend"
    assert re.search(rf"^apt: {held}; this run waits for it, 300 s at most$", applied.output, re.MULTILINE)
    assert re.fullmatch(rf"It was waited for: {held}", applied.states["base-apt-free"]["comment"])
    # A run that installs nothing does not wait.
    host.sh(f'python3 -c "{HOLD.format(60)}" >/dev/null 2>&1 & sleep 1')
    assert apply(host).changed_nothing().states["base-apt-free"]["comment"] == "No package is to be installed"
    host.sh("pkill -f '[l]ock-frontend'")


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


# --- Going back -------------------------------------------------------------------------------------------------------


def test_a_rollback_restores_the_config_too_and_holds(host, mirror, pillar, release):
    for shade in ("blue", "black"):
        pillar.merge(app={"mirror": {"config": {"COLOUR": shade, "ONLY_NEW": "1" if shade == "black" else None}}})
        apply(host).succeeded()
    bad = release()
    assert host.salt("release.rollback", "mirror") == f"mirror: v{bad - 1} serves and is held; v{bad} was left"
    assert (release(), colour(mirror)) == (bad - 1, "blue")
    assert "ONLY_NEW" not in mirror.get("/environ").json()["environ"]
    # It holds, and says so plainly.
    applied = apply(host).changed_nothing()
    said = applied.states["app-release-mirror"]["comment"]
    what = f"mirror is held at v{bad - 1}, and what the pillar declares does not serve"
    assert re.match(rf"{what}: v{bad} was rolled back by \S+ at \d{{4}}-", said)
    # Beside what a program reads, and in the report, whatever that shows.
    assert f"\nnote: {said}\n" in applied.output
    assert applied.states["base-notes"]["warnings"] == [said]
    for options in ([], ["--state-output=terse", "--state-verbose=False", "--no-color"]):
        report = host.run("salt-call", "--retcode-passthrough", *options, "state.apply", "test=True").stdout
        assert report.endswith(f"\nnote: {said}\n")
        assert report.count("is held") == 1
    assert re.search(rf"(?m)^ +v{bad - 1} +serving, held ", host.run("salt-call", "release.list", "mirror").stdout)
    assert colour(mirror) == "blue"
    # Another config ends the hold.
    pillar.merge(app={"mirror": {"config": {"COLOUR": "white"}}})
    apply(host).succeeded()
    assert (release(), colour(mirror)) == (bad + 1, "white")
    assert apply(host).changed_nothing().states["app-release-mirror"]["comment"] == f"v{bad + 1} serves"
    # The one that was left is not what the next rollback goes to.
    host.salt("release.rollback", "mirror")
    assert release() == bad - 1
    host.salt("release.rollback", "mirror", str(bad))
    assert (release(), colour(mirror)) == (bad, "black")
    # What the pillar asks for is compared with the release that it asked for, however often one goes back.
    apply(host).changed_nothing()
    assert release() == bad
    host.salt("release.unhold", "mirror")
    apply(host).succeeded()
    assert colour(mirror) == "white"
    nothing_is_left(host)


def test_a_rollback_across_a_migration_needs_force(host, mirror, new_build, release):
    new_build("with a migration", migrations__0001="# a table")
    apply(host).succeeded()
    number = release()
    new_build("with two migrations", migrations__0002="# another")
    apply(host).succeeded()
    new_build("with two migrations and more", migrations__0002="# another")
    apply(host).succeeded()
    # The same migrations: nothing is crossed.
    host.salt("release.rollback", "mirror")
    assert release() == number + 1
    done = host.run("salt-call", "release.rollback", "mirror", check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert (
        f"mirror: v{number + 1} has run migrations of its code that v{number} does not have. If v{number} works with"
        in said
    )
    assert "Traceback" not in said
    host.salt("release.rollback", "mirror", "force=True")
    assert release() == number
    host.salt("release.unhold", "mirror")
    apply(host).succeeded()


def test_a_release_that_is_not_there_cannot_be_gone_back_to(host, mirror):
    for number, word in (("999", "999"), ("v0", "v0"), ("x", "x")):
        done = host.run("salt-call", "release.rollback", "mirror", number, check=False)
        assert done.returncode != 0
        assert f"mirror: {word}: no release to go back to; expected one of v" in done.stdout + done.stderr
    done = host.run("salt-call", "release.rollback", "miror", check=False)
    assert "miror: no app of this host has this name; expected one of faq, mirror, tickets" in done.stdout + done.stderr


def test_hold_and_unhold(host, mirror, pillar, release):
    number = release()
    assert host.salt("release.hold", "mirror") == f"mirror: v{number} is held until release.unhold mirror"
    pillar.merge(app={"mirror": {"config": {"COLOUR": "grey"}}})
    said = apply(host).changed_nothing().states["app-release-mirror"]["comment"]
    assert said.startswith(f"mirror is held at v{number}, and what the pillar declares does not serve: it is held by ")
    host.salt("release.unhold", "mirror")
    apply(host).succeeded()
    assert (release(), colour(mirror)) == (number + 1, "grey")


def test_what_happened_can_be_read_and_no_value_with_it(host, mirror, pillar, release):
    number = release()
    # As the README has it, they are tables.
    table = host.run("salt-call", "release.list", "mirror").stdout.splitlines()
    assert table[1].split()[:5] == ["release", "state", "version", "build", "created"]
    assert host.run("salt-call", "release.log", "mirror").stdout.splitlines()[1].split()[:2] == ["time", "who"]
    listed = host.salt("release.list", "mirror")
    assert len(table) == len(listed) + 2
    assert listed[0] | {"version": "", "build": "", "created": ""} == {
        **{"release": f"v{number}", "state": "serving", "version": "", "build": "", "created": "", "reason": ""}
    }
    shown = host.salt("release.show", "mirror")
    assert shown["number"] == number
    assert shown["variables"] == sorted(shown["variables"])
    assert "COLOUR" in shown["variables"]
    log = host.salt("release.log", "mirror")
    assert log[-1]["event"].startswith("serves (from v")
    assert log[-1]["what"] == "changed COLOUR"
    for command in ("release.list", "release.show", "release.log"):
        table = host.run("salt-call", command, "mirror").stdout
        assert f"v{number}" in table or command == "release.show"
        assert "canary" not in table
    assert "canary" not in host.sh("cat /srv/apps/mirror/release.log").stdout
    assert "canary" not in json.dumps([listed, shown, log])


def test_a_dry_run_tells_exactly_what_the_run_does(host, mirror, pillar, release):
    pillar.merge(app={"mirror": {"config": {"COLOUR": "gold", "MORE": "1"}}})
    number = release()
    dry = apply(host, "test=True").succeeded().states["app-release-mirror"]["changes"]
    real = apply(host).succeeded().states["app-release-mirror"]["changes"]
    assert dry == real
    assert real["release"] == {"old": f"v{number}", "new": f"v{number + 1}"}
    assert real["variables"] == {"added": ["MORE"], "changed": ["COLOUR"]}
    assert real["processes"]["start"] == [f"mirror.v{number + 1}.{name}" for name in ("web.1", "web.2", "worker.1")]
    assert real["processes"]["stop"] == [f"mirror.v{number}.{name}" for name in ("web.1", "web.2", "worker.1")]


# --- Processes --------------------------------------------------------------------------------------------------------


def test_a_process_that_keeps_dying_is_told(host, mirror):
    for _ in range(3):
        pid = host.sh('supervisorctl status | awk \'/^mirror.*worker.1/ {sub(",", "", $4); print $4}\'').stdout.strip()
        host.sh(f"kill -9 $(pgrep -o -P {pid}); sleep 4")
    applied = apply(host)
    assert applied.failed.keys() == {"app-release-mirror"}
    said = applied.failed["app-release-mirror"]
    assert re.search(
        r"mirror\.v\d+\.worker\.1 ended 3 times in the last 10 minutes, at last with terminated by SIGKILL", said
    )
    host.sh("journalctl --rotate -q; journalctl --vacuum-time=1s -q")


def test_one_off_processes_run_as_the_app_does(host, mirror):
    said = host.run(
        "mirror-run", "python", "-c", "import os; print(os.environ['COLOUR'], os.getcwd(), os.getuid())"
    ).stdout
    shade, directory, user = said.split()
    assert shade == "gold"
    assert directory.startswith("/srv/apps/mirror/builds/")
    assert user == host.sh("id -u mirror").stdout.strip()
    assert host.run("mirror-run", "sh", "-c", "exit 7", check=False).returncode == 7
    assert host.run("mirror-run", "cat", input="as it is\n").stdout == "as it is\n"
    assert host.run("mirror-run", "printf", "%s|", "a b", '"$HOME"', "*").stdout == 'a b|"$HOME"|*|'
    missing = host.run("mirror-run", "absent", check=False)
    assert (missing.returncode, missing.stderr) == (127, "mirror-run: absent: No such file or directory\n")
    assert host.run("mirror-run", check=False).stderr == "usage: mirror-run COMMAND [ARGUMENT ...]\n"
    other = host.run("runuser", "-u", "faq", "--", "mirror-run", "id", check=False)
    assert (other.returncode, other.stderr) == (1, "mirror-run: not root: run it with sudo\n")
    # With a terminal it has one of its own, and root's is out of its reach; tests/unit/test_terminal.py has more ways.
    ways = ("", " | cat", " </dev/null 2>&1 | cat")
    script = "; ".join(["tty", *(f"mirror-run sh -c 'ls -l /proc/self/fd; tty </dev/tty'{way}" for way in ways)])
    roots, shown = host.run("script", "-qec", script, "/dev/null").stdout.split("\n", 1)
    assert roots.startswith("/dev/pts/") and "/dev/pts/" in shown
    assert f"{roots.strip()}\r" not in shown
