"""The runner: which moments it takes, what it does when a run is under way, and how it ends one."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from saltern import leases
from saltern.jobs import ended, names, record, runner, schedule
from saltern.leases import Local, Unreachable

SAID = {
    "process": "sweep",
    "calendar": "*-*-* *:00/10:00 UTC",
    "overlap": "forbid",
    "timeout": 60,
    "grace": 1,
    "suspended": False,
    "after": [],
}
TEN = 1795990800.0


@pytest.fixture
def place(monkeypatch, tmp_path):
    """The directories of a host, with a release that serves; pauses take no time but that of a fake clock."""
    for name in ("DECLARED", "RECORDS", "RUNTIME"):
        monkeypatch.setattr(names, name, f"{tmp_path}/{name}")
    monkeypatch.setattr(record.note, "__defaults__", (f"{tmp_path}/RECORDS",))
    monkeypatch.setattr(record.runs, "__defaults__", (f"{tmp_path}/RECORDS",))
    monkeypatch.setattr(record.of, "__defaults__", (f"{tmp_path}/RECORDS",))
    monkeypatch.setattr(ended, "APPS", f"{tmp_path}/apps")
    monkeypatch.setattr(leases, "is_drained", lambda: os.path.exists(f"{tmp_path}/drained"))
    monkeypatch.setattr(ended, "tell", lambda *_: None)
    own = Local("shop", "app1", f"{tmp_path}/held", f"{tmp_path}/kept")
    monkeypatch.setattr(leases, "opened", lambda app: own)
    release = tmp_path / "apps/shop/releases/3"
    release.mkdir(parents=True)
    (release / "release.json").write_text(json.dumps({"build": "0123456789abcdef", "processes": {"sweep": "true"}}))
    os.symlink("releases/3", tmp_path / "apps/shop/current")
    (tmp_path / "DECLARED").mkdir()
    (tmp_path / "DECLARED/shop.sweep.json").write_text("{}")
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    """The clock of the hosts, which stands still but for pauses."""
    now = [TEN]

    def pause(seconds):
        now[0] += seconds

    # Not in the module itself, which all others use too.
    still = SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0], sleep=pause)
    for module in (runner, ended):
        monkeypatch.setattr(module, "time", still)
    monkeypatch.setattr(runner.Runner, "_pause", lambda self, seconds: pause(seconds))
    return now


def one(number="1", by="clock", host="app1", **more):
    return runner.Runner("shop", "sweep", number, by, SAID | {"host": host} | more)


def taken(*runners):
    return [one._is_taken() for one in runners]


def test_one_of_all_hosts_takes_a_moment(place, clock):
    assert taken(one("1"), one("2", host="app2"), one("3")) == [True, False, False]
    clock[0] += 590
    assert taken(one("4"), one("5", host="app2")) == [False, False]
    clock[0] += 10
    assert taken(one("6", host="app2"), one("7")) == [True, False]


@pytest.mark.parametrize("late", [0.05, 3, 200], ids=lambda late: f"app2 {late} s late")
@pytest.mark.parametrize("skew", [-5, -0.2, 0.2, 5], ids=lambda skew: f"app2 {skew} s ahead")
def test_hosts_whose_clocks_differ_take_each_moment_once(place, clock, skew, late):
    wins = []
    for number in range(10):
        moment = TEN + 600 * number
        # Each host's timer elapses when its own clock says so: the one whose clock is ahead comes first.
        elapsed = [(moment + 0.05, moment + 0.05, "app1"), (moment - skew + late, moment + late, "app2")]
        for _, clock[0], host in sorted(elapsed):
            wins += [number for won in taken(one(f"{number}-{host}", host=host)) if won]
    assert wins == list(range(10))


def test_what_was_missed_is_made_up_once(place, clock):
    assert taken(one("1")) == [True]
    clock[0] += 7 * 86400
    assert taken(one("2"), one("3", host="app2")) == [True, False]


def test_a_suspended_job_takes_no_moment(place, clock):
    own = leases.opened("shop")
    own.advance(names.suspended("sweep"), None, '{"who": "root"}')
    assert taken(one("1")) == [False]
    own.advance(names.suspended("sweep"), '{"who": "root"}', "")
    assert taken(one("2")) == [True]


def test_a_drained_host_waits_until_it_takes_requests_again_or_another_one_has_the_moment(place, clock, monkeypatch):
    looks = []
    drained = [True, True, False]
    monkeypatch.setattr(runner.Runner, "_is_drained", lambda self: looks.append(1) or drained.pop(0))
    assert taken(one("1")) == [True]
    assert len(looks) == 3
    clock[0] += 600

    def by_another(self):
        assert leases.opened("shop").advance(
            names.moment("sweep"), leases.opened("shop").read(names.moment("sweep")).value, json.dumps({"at": clock[0]})
        )
        return True

    monkeypatch.setattr(runner.Runner, "_is_drained", by_another)
    assert taken(one("2")) == [False]


class Away(Local):
    """Leases whose etcd does not answer."""

    def read(self, name):
        raise Unreachable("etcd of production does not answer")


def test_a_run_fails_with_the_reason_where_nobody_can_tell_who_is_alone(place, clock, monkeypatch):
    away = Away("shop", "app1", f"{place}/held", f"{place}/kept")
    monkeypatch.setattr(leases, "opened", lambda app: away)
    one("1").go()
    (found,) = record.runs("shop", "sweep")
    assert (found["status"], found["reason"]) == ("failed", "it did not run: etcd of production does not answer")
    assert clock[0] - TEN >= runner.PATIENCE


class Vague(Local):
    """Leases whose etcd writes a value, and loses the answer."""

    lost = 1

    def advance(self, name, before, after):
        done = super().advance(name, before, after)
        if self.lost:
            self.lost -= 1
            raise Unreachable("no answer")
        return done


def test_a_moment_whose_answer_was_lost_is_taken_once(place, clock, monkeypatch):
    vague = Vague("shop", "app1", f"{place}/held", f"{place}/kept")
    monkeypatch.setattr(leases, "opened", lambda app: vague)
    assert taken(one("1"), one("2", host="app2")) == [True, False]


# --- Whole runs, of a launcher that is a script -----------------------------------------------------------------------

LAUNCHER = """#!{python}
import os, signal, sys, time
def end(*_):
    open("{told}", "a").write("told\\n")
    sys.exit(143)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "{kind}" == "stubborn" else end)
open("{told}", "a").write(" ".join(sys.argv[1:]) + "\\n")
time.sleep({seconds})
sys.exit({code})
"""


@pytest.fixture
def launcher(place, monkeypatch):
    """A function that makes the launcher a script; it returns the file in which the script writes."""
    monkeypatch.setattr(runner.Runner, "_lines", lambda self: ["the last line"])
    monkeypatch.setattr(runner, "LOOK", 0.05)
    monkeypatch.setattr(runner, "BACKSTOP", 0)

    def make(seconds=0.0, code=0, kind="tame"):
        told, path = place / "told", place / "process"
        path.write_text(LAUNCHER.format(python=sys.executable, told=told, seconds=seconds, code=code, kind=kind))
        path.chmod(0o755)
        monkeypatch.setattr(names, "LAUNCHER", str(path))
        end = runner.Runner._ended

        def patient(self, *args):
            # A process that has just been started does not handle signals yet.
            while not told.exists():
                time.sleep(0.01)
            return end(self, *args)

        monkeypatch.setattr(runner.Runner, "_ended", patient)
        return told

    return make


ENDS = [(0, "succeeded", ""), (3, "failed", "exit status 3")]


@pytest.mark.parametrize("code, status, reason", ENDS)
def test_a_run_is_noted_as_it_ended(launcher, code, status, reason):
    told = launcher(code=code)
    one("1").go()
    (found,) = record.runs("shop", "sweep")
    assert (found["status"], found["reason"], found["exit"], found["release"]) == (status, reason, code, 3)
    assert found.get("lines") == (["the last line"] if code else None)
    assert told.read_text() == "shop 3 sweep.sweep.1\n"
    known = record.mapping(leases.opened("shop").read(names.last("sweep")).value)
    assert known["run"]["status"] == status and ("success" in known) is (code == 0)


def test_a_run_whose_time_is_over_is_ended_and_killed_after_its_grace(launcher, monkeypatch):
    killed = []
    launcher(seconds=30, kind="stubborn")
    process = []
    popen = subprocess.Popen

    def begun(*args, **named):
        process.append(popen(*args, **named))
        return process[-1]

    def kill(scope):
        killed.append(scope)
        process[0].kill()

    monkeypatch.setattr(runner.subprocess, "Popen", begun)
    monkeypatch.setattr(ended, "kill", kill)
    one("1", timeout=1).go()
    (found,) = record.runs("shop", "sweep")
    assert (found["status"], found["reason"]) == ("failed", "not done after 1 s (app.shop.jobs.sweep.timeout)")
    assert killed == ["app-shop-sweep-sweep.1.v3.scope"]


def under_way(host="app2"):
    run = {"run": "7", "started": TEN, "host": host, "status": "running"}
    return leases.opened("shop").take(names.lease("sweep"), 60, json.dumps(run))


def test_a_run_beside_another_one_is_skipped_and_says_so(launcher):
    told = launcher()
    lease = under_way()
    one("1").go()
    (found,) = record.runs("shop", "sweep")
    assert found["status"] == "skipped"
    assert found["reason"].endswith("on app2 is still under way") and not told.exists()
    assert leases.opened("shop").read(names.last("sweep")) is None, "a run that was skipped is no last run"
    lease.give_back()
    one("2", by="hand").go()
    assert record.of("shop", "sweep", "2")["status"] == "succeeded"


def test_a_run_may_go_on_beside_another_one_where_that_is_declared(launcher):
    launcher()
    under_way()
    one("1", overlap="allow").go()
    assert record.of("shop", "sweep", "1")["status"] == "succeeded"


def test_a_run_takes_the_place_of_another_one_where_that_is_declared(launcher, monkeypatch):
    launcher()
    lease = under_way()
    asked = []

    def pause(self, seconds):
        asked.append(leases.opened("shop").read(names.replaced("sweep")).value)
        lease.give_back()

    monkeypatch.setattr(runner.Runner, "_pause", pause)
    one("1", overlap="replace").go()
    assert asked == ["7"]
    assert record.of("shop", "sweep", "1")["status"] == "succeeded"


def test_a_run_that_is_asked_to_end_for_another_one_ends(launcher):
    told = launcher(seconds=30)
    leases.opened("shop").advance(names.replaced("sweep"), None, "1")
    one("1", overlap="replace").go()
    assert record.of("shop", "sweep", "1")["status"] == "replaced"
    assert told.read_text().splitlines()[-1] == "told"


class Lost:
    """A lease that another host has by now, or that nobody can renew."""

    def __init__(self, renews):
        self.renews, self.deadline = renews, leases.now() + 100

    def renew(self):
        if self.renews is None:
            raise Unreachable("no answer")
        return self.renews

    def give_back(self):
        pass


@pytest.mark.parametrize("renews, left, ends", [(False, 100, True), (None, 100, False), (None, 20, True)])
def test_a_run_ends_before_another_host_may_begin_one(launcher, monkeypatch, renews, left, ends):
    launcher(seconds=1.0)
    monkeypatch.setattr(runner, "RENEWAL", 0.0)
    lease = Lost(renews)
    lease.deadline = leases.now() + left
    monkeypatch.setattr(Local, "take", lambda *_: lease)
    one("1").go()
    found = record.of("shop", "sweep", "1")
    assert found["status"] == ("failed" if ends else "succeeded")
    assert ("cannot tell any more that it alone runs it" in found["reason"]) is ends


def test_a_run_whose_runner_was_killed_is_told_and_nothing_of_it_goes_on(place, monkeypatch):
    killed = []
    monkeypatch.setattr(ended, "kill", killed.append)
    run = {"run": "5", "status": "running", "started": 5.0, "release": 3, "process": "sweep", "host": "app1"}
    record.note("shop", "sweep", run)
    ended.abandoned("shop", "sweep", "5")
    ended.abandoned("shop", "sweep", "5")
    assert killed == ["app-shop-sweep-sweep.5.v3.scope"]
    assert record.of("shop", "sweep", "5")["reason"] == "ended: its runner was killed, or the host went down"


CANNOT = {
    "no release serves": (lambda place: (place / "apps/shop/current").unlink(), "no release of shop serves"),
    "the release has no such type": (
        lambda place: (place / "apps/shop/releases/3/release.json").write_text('{"processes": {}}'),
        "v3 has no process type sweep",
    ),
}


@pytest.mark.parametrize("break_it, reason", CANNOT.values(), ids=CANNOT)
def test_a_run_that_cannot_begin_says_why(place, launcher, break_it, reason):
    launcher()
    break_it(place)
    one("1").go()
    (found,) = record.runs("shop", "sweep")
    assert found["status"] == "failed" and found["reason"].startswith(reason)


def test_a_run_by_hand_takes_no_moment_and_a_drained_host_refuses_it(place, launcher):
    launcher()
    one("1", by="hand").go()
    assert leases.opened("shop").read(names.moment("sweep")) is None
    (place / "drained").touch()
    one("2", by="hand").go()
    assert record.of("shop", "sweep", "2")["reason"].startswith("this host is drained")


def test_one_runner_of_a_host_decides_at_a_time(place, monkeypatch):
    monkeypatch.setattr(runner, "DECIDES", 0.1)
    with one("1")._alone() as first, one("2")._alone() as second:
        assert (first, second) == (True, False)
    with one("3")._alone() as third:
        assert third


def test_the_runner_takes_nothing_that_debians_own_python_lacks():
    code = "import sys; from saltern.jobs import runner; print([name for name in sys.modules if name == 'salt'])"
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(schedule.__file__))))
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert time.time() > TEN - 10**9
