"""A process that is alone: when its launcher lets it run, when it must end, and what is told meanwhile."""

import signal
import threading
import time
import types

import pytest

from saltern import leases
from saltern.leases import Entry, Unreachable

GRACE = 10


class Leases:
    """Leases that a test answers for."""

    host, cluster = "app1", "1"

    def __init__(self, *answers):
        self.answers, self.taken, self.waits = list(answers), [], []

    def missing(self, name, is_clear):
        return self.waits.pop(0) if self.waits else []

    def take(self, name, ttl, value):
        self.taken.append((name, ttl, value))
        self.answer = self.answers.pop(0) if self.answers else "app2"
        if isinstance(self.answer, Exception):
            raise self.answer
        return None if isinstance(self.answer, str) else self.answer

    def read(self, name):
        return Entry("v1", self.answer) if self.answer else None


class Lease:
    def __init__(self, deadline=100.0, answers=()):
        self.deadline, self.answers, self.is_back = deadline, list(answers), False

    def renew(self):
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        self.deadline += answer
        return bool(answer)

    def give_back(self):
        self.is_back = True


@pytest.fixture
def alone(launcher, tmp_path, monkeypatch):
    """The launcher's module, whose clock stands, on a host that is not drained and runs nothing."""
    it = launcher.alone
    monkeypatch.setattr(it, "POLL", 0.01)
    monkeypatch.setattr(it, "STANDBY", str(tmp_path))
    monkeypatch.setattr(it, "scopes", list)
    monkeypatch.setattr(it.os, "kill", lambda pid, number: None)
    monkeypatch.setattr(leases, "now", lambda: 0.0)
    monkeypatch.setattr(leases, "is_drained", lambda: False)
    return it


@pytest.fixture
def guard(alone, launcher, monkeypatch, tmp_path):
    """A function that makes a guard with answers of its leases; ``said`` is its log."""

    def make(*answers):
        scope = launcher.scope.Scope("shop", "3", "beat.1")
        monkeypatch.setattr(scope, "grace", lambda: GRACE)
        said = []
        monkeypatch.setattr(alone, "say", lambda scope, text: said.append(text))
        made, answered = alone.Guard(scope), Leases(*answers)
        monkeypatch.setattr(leases, "opened", lambda app: answered)
        made.said, made.asked, made.file = said, answered, tmp_path / "shop.v3.beat.1"
        return made

    return make


def signals(*given):
    """A function that returns signals as they come, and none after a moment."""
    left = list(given)

    def wait(seconds):
        time.sleep(0.05)
        return left.pop(0) if left else []

    return wait


def test_it_runs_once_nobody_else_does_and_tells_each_reason_once(guard):
    it = guard("app2", "app2", Unreachable("no answer"), Unreachable("refused"), "app3", "app1", Lease())
    it.asked.waits = [["app2"], ["app2"], []]
    assert it.stand_by(signals()) is True
    assert it.said == [
        "standby: waits until app2 has converged, which may run it yet",
        "standby: app2 runs it",
        "standby: no answer",
        "standby: app3 runs it",
        "standby: its lease of before has not ended",
    ]
    assert set(it.asked.taken) == {("process/beat", GRACE + 20, "v3")}
    assert not it.file.exists()


def test_what_it_waits_for_is_written_down(guard):
    it = guard()
    thread = threading.Thread(target=it.stand_by, args=(signals([], [], [], [signal.SIGTERM]),))
    thread.start()
    deadline = time.monotonic() + 5
    while not it.file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert it.file.read_text() == "app2 runs it"
    thread.join()
    assert not it.file.exists()


def test_a_signal_ends_the_wait_and_gives_back_what_came_meanwhile(guard):
    it = guard()
    assert it.stand_by(signals([signal.SIGTERM])) is False
    it = guard()
    lease = Lease()
    it._begin(lambda: setattr(it, "lease", lease))
    it.end()
    assert lease.is_back


def test_a_drained_host_takes_nothing(guard, monkeypatch):
    it = guard(Lease())
    monkeypatch.setattr(leases, "is_drained", lambda: True)
    assert it.stand_by(signals([], [signal.SIGTERM])) is False
    assert it.asked.taken == [] and it.said == ["standby: this host is drained"]


# Seconds at which the process must end: the lease lasts until 100, the grace is 10 s, the margin 5 s.
MOMENTS = [(0, ""), (84.9, ""), (85, "its lease cannot be renewed: no answer"), (1000, "its lease cannot be renewed")]


@pytest.mark.parametrize("now, reason", MOMENTS)
def test_the_process_ends_early_enough_for_its_grace(guard, monkeypatch, now, reason):
    it = guard()
    it.lease = Lease(answers=[Unreachable("no answer")])
    it._renew()
    monkeypatch.setattr(leases, "now", lambda: now)
    assert it.reason().startswith(reason) and bool(it.reason()) is bool(reason)


@pytest.mark.parametrize("now, is_killed", [(0, False), (94.9, False), (95, True)])
def test_what_outlives_its_grace_is_killed_before_the_lease_ends(guard, monkeypatch, now, is_killed):
    it = guard()
    it.lease = Lease()
    monkeypatch.setattr(leases, "now", lambda: now)
    ending = types.SimpleNamespace(deadline=time.monotonic() + 1000)
    it.hurry(ending)
    assert (ending.deadline <= time.monotonic()) is is_killed


def test_a_renewal_moves_the_end(guard, monkeypatch):
    it = guard()
    it.lease = Lease(answers=[Unreachable("no answer"), 50])
    monkeypatch.setattr(leases, "now", lambda: 90)
    assert not it._renew() and it.reason()
    assert it._renew() and it.reason() == ""


def test_a_lease_that_was_taken_away_ends_the_process_at_once(guard):
    it = guard()
    it.lease = Lease(answers=[0])
    it._renew()
    assert it.reason() == "its lease was taken away"
    ending = types.SimpleNamespace(deadline=time.monotonic() + 1000)
    it.hurry(ending)
    assert ending.deadline <= time.monotonic()


def test_a_drain_ends_the_process_with_its_grace(guard, monkeypatch):
    it = guard()
    it.lease = Lease()
    monkeypatch.setattr(leases, "is_drained", lambda: True)
    assert it.reason() == "this host is drained"
    ending = types.SimpleNamespace(deadline=time.monotonic() + 1000)
    it.hurry(ending)
    assert ending.deadline > time.monotonic()


@pytest.mark.parametrize("cluster, moves", [("1", False), ("2", True), ("", True)])
def test_other_settings_are_followed(guard, monkeypatch, tmp_path, cluster, moves):
    it = guard()
    monkeypatch.setattr(leases, "SETTINGS", str(tmp_path / "leases.json"))
    it.leases, it.lease = it.asked, Lease()
    it._follow()
    assert it.reason() == ""
    (tmp_path / "leases.json").touch()
    now = Leases()
    now.cluster, now.members = cluster, {"db1": "10.0.0.1"}
    monkeypatch.setattr(leases, "opened", lambda app: now)
    it._follow()
    assert bool(it.reason()) is moves
    assert moves or it.asked.members == now.members


def test_what_another_release_has_left_is_ended_by_who_holds_the_lease(alone, guard, launcher, monkeypatch):
    old, other = (launcher.scope.Scope("shop", number, "beat.1") for number in ("2", "1"))
    process = launcher.ending.Process
    monkeypatch.setattr(old, "found", lambda: {7: process(7, 1, "python3")})
    monkeypatch.setattr(other, "found", lambda: {8: process(8, 1, "python3", is_root=True)})
    web = launcher.scope.Scope("shop", "2", "web.1")
    monkeypatch.setattr(web, "found", lambda: {9: process(9, 1, "python3")})
    ended = []
    monkeypatch.setattr(alone, "scopes", lambda: [old, other, web])
    monkeypatch.setattr(alone, "stream", lambda scope: 2)
    monkeypatch.setattr(alone, "finish", lambda endings: ended.extend(ending.scope for ending in endings))
    it = guard(Lease())
    assert it.stand_by(signals())
    assert ended == [old], "a launcher that stands by has no process, and another type is another's"
