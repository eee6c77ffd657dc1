"""The steps of a move to a release."""

import contextlib
import dataclasses
import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.attachments import config
from saltern.contracts import ask as asking
from saltern.host import Host
from saltern.releases import deploy, history, migration, plan, published, scopes, serving, steps, store, supervisor
from saltern.releases import process as processes
from saltern.releases.move import Move
from saltern.releases.refusal import Refusal
from saltern.web import away, in_flight, workers

RECORD = {"build": "a", "processes": {"web": "serve", "release": "migrate"}}


MIGRATED = {
    "alone": (["one"], [0], 1, None),
    "alone, and it fails": (["one"], [1], 1, "exit status 1"),
    "another host was faster": (["one", "two"], [1, 0], 2, None),
    "it fails everywhere": (["one", "two"], [1, 1, 2], 3, "exit status 2"),
}


@pytest.mark.parametrize("hosts, codes, runs, refused", MIGRATED.values(), ids=MIGRATED)
def test_a_migration_is_tried_again_where_another_host_may_run_it_too(monkeypatch, hosts, codes, runs, refused):
    left = list(codes)
    monkeypatch.setattr(store, "record", lambda app, number: RECORD)
    host = Host.of({}, {"nginx": {"alone": hosts == ["one"]}}, {"id": "one"})
    monkeypatch.setattr(steps, "_run_release", lambda move: left.pop(0))
    monkeypatch.setattr(steps, "PAUSE", 0)
    moved = Move(host, "shop", 1, {}, None, {})
    if refused:
        with pytest.raises(Refusal, match=refused):
            steps.release(moved)
    else:
        steps.release(moved)
    assert len(codes) - len(left) == runs


@pytest.mark.parametrize(
    "left, build, database, runs",
    [(None, "a", "db1", 0), (1, "a", "db1", 0), (2, "a", "db1", 1), (1, "b", "db1", 1), (1, "a", "db2", 1)],
)
def test_what_another_host_has_migrated_counts_for_a_new_release_of_the_same_alone(
    monkeypatch, tmp_path, left, build, database, runs
):
    environ = {"DATABASE_URL": "postgres://db1/shop"}
    monkeypatch.setattr(store, "record", lambda app, number: RECORD | {"build": build})
    monkeypatch.setattr(config, "environ", lambda host, app: environ)
    host = Host.of({}, {"nginx": {"alone": True}}, {})
    monkeypatch.setattr(deploy, "LOCKS", str(tmp_path))
    monkeypatch.setattr(migration, "MIGRATED", f"{tmp_path}/{{app}}")
    monkeypatch.setattr(deploy, "_movable", lambda host, app, sha256: {"new": True, "number": 2})
    assert deploy.migrated(host, "shop", "a")
    environ["DATABASE_URL"] = f"postgres://{database}/shop"
    ran = []
    monkeypatch.setattr(steps, "_run_release", lambda move: ran.append(move) or 0)
    steps.release(Move(host, "shop", 2, {}, left, {}))
    assert len(ran) == runs


def test_what_is_migrated_is_the_build_that_was_asked_for(monkeypatch):
    host = Host.of({}, {}, {})
    monkeypatch.setattr(deploy, "locked", lambda app: contextlib.nullcontext())
    monkeypatch.setattr(plan, "plan", lambda host, app: {"new": False, "number": 2, "held": {}})
    monkeypatch.setattr(plan, "declared", lambda host, app: {"build": {"sha256": "a" * 64}})
    assert deploy.migrate(host, "shop", "a" * 64) == "shop: v2 is what is declared; nothing to migrate"
    with pytest.raises(CommandExecutionError, match=r"^shop: .* told to run build a{12}, and is asked for b{12};"):
        deploy.migrate(host, "shop", "b" * 64)
    assert deploy.movable(host, "shop", "a" * 64)
    # A stale pillar is refused even where the app is held at the build that this pillar declares.
    monkeypatch.setattr(plan, "plan", lambda host, app: {"new": False, "number": 2, "held": {"build": "a"}})
    for ask in (deploy.movable, deploy.migrated):
        with pytest.raises(CommandExecutionError, match=r"^shop: .* told to run build a{12}, and is asked for b{12};"):
            ask(host, "shop", "b" * 64)
        with pytest.raises(CommandExecutionError, match=r"^shop: v2 is held"):
            ask(host, "shop", "a" * 64)


ALONE = {
    "it must be alone": ({"beat": "stop-first"}, {3: ["web.1", "beat.1", "worker.1"]}, ["beat.1"], ["beat.1"]),
    "each of two": ({"beat": "stop-first"}, {3: ["beat.1", "beat.2"]}, ["beat.1"], ["beat.1", "beat.2"]),
    "it is new": ({"beat": "stop-first"}, {3: ["web.1"]}, ["beat.1"], []),
    "the first release": ({"beat": "stop-first"}, {}, [], []),
    "it is alone in its environment": ("alone", {3: ["web.1", "beat.1"]}, ["beat.1"], ["beat.1"]),
    "beside the old one": ({"beat": "start-first"}, {3: ["beat.1"]}, [], []),
    "nothing is said": ({}, {3: ["beat.1"]}, [], []),
}


@pytest.mark.parametrize("order, others, waiting, ended", ALONE.values(), ids=ALONE)
def test_a_process_that_must_be_alone_starts_when_its_predecessor_has_ended(monkeypatch, order, others, waiting, ended):
    ports = {"beat.1": None, "web.1": 8101, "worker.1": None}
    configured = {number: dict.fromkeys(names) for number, names in others.items()}
    did = []

    def applied(app, number, wanted, graces):
        configured[number] = dict(wanted)
        did.append(("start", sorted(wanted)))

    # It ends when it was looked at twice.
    looks = iter([False, True])
    monkeypatch.setattr(processes, "releases", lambda app: [(app, number) for number in sorted(configured)])
    monkeypatch.setattr(processes, "configured", lambda app, number: configured.get(number, {}))
    monkeypatch.setattr(store, "graces", lambda app, number: {})
    monkeypatch.setattr(supervisor, "apply", applied)
    monkeypatch.setattr(supervisor, "tell", lambda app, number, names: did.append(("end", number, names)))
    monkeypatch.setattr(steps, "_have_ended", lambda *_: next(looks))
    monkeypatch.setattr(steps, "wait", lambda move, names, *states: did.append(("wait", sorted(names))))
    monkeypatch.setattr(steps, "POLL", 0)
    told = {"shop.v4.beat.1": {"standby": "app2 runs it"}, "shop.v4.web.1": {}}
    monkeypatch.setattr(supervisor, "info", lambda app, number: told)
    # One process in the environment has this order without being told.
    ports["beat.1"] = processes.ALONE if order == "alone" else None
    order = {} if order == "alone" else order
    move = Move(Host.of({}, {}, {}), "shop", 4, ports, 3 if others else None, {"order": order})
    for step in (steps.start, steps.health, steps.succeed, steps.running):
        step(move)
    first = sorted(ports.keys() - set(waiting))
    expected = [("start", first), ("wait", first)]
    expected += [("end", 3, ended)] if ended else []
    expected += [("start", sorted(ports)), ("wait", waiting)] if waiting else []
    assert did == [*expected, ("wait", sorted(ports))]
    assert configured[4] == ports
    assert move.told == (["beat.1 is in standby (app2 runs it)"] if ports["beat.1"] == processes.ALONE else [])
    # Whoever moves to it again finds it started.
    did.clear()
    for step in (steps.start, steps.succeed):
        step(move)
    assert did == [("start", sorted(ports))]


@pytest.fixture
def moved(monkeypatch, tmp_path):
    """A function that takes steps of a move from v3 to v4 of shop, and what was done."""
    did, configured, ended = [], {3: {"asgi.1": 8139, "web.1": 8101, "worker.1": None}}, set()

    def apply(app, number, ports, graces):
        configured[number] = dict(ports)
        did.append(("start", number, sorted(ports)))

    def tell(app, number, names):
        ended.update(names)
        did.append(("end", number, sorted(names), sorted(away.marks("shop"))))

    def wait(move, ports, *states):
        did.append(("healthy", move.number, sorted(ports)))

    monkeypatch.setattr(away, "MARK", f"{tmp_path}/away.")
    monkeypatch.setattr(processes, "releases", lambda app: [(app, number) for number in sorted(configured)])
    monkeypatch.setattr(processes, "configured", lambda app, number: configured.get(number, {}))
    monkeypatch.setattr(processes, "ended", lambda app, number: ended if number == 3 else set())
    monkeypatch.setattr(store, "graces", lambda app, number: {"web": 40, "asgi": 90})
    monkeypatch.setattr(supervisor, "apply", apply)
    monkeypatch.setattr(supervisor, "tell", tell)
    monkeypatch.setattr(supervisor, "resume", lambda app, number: did.append(("start again", number)))
    monkeypatch.setattr(workers, "reload", lambda: did.append(("reload", sorted(away.marks("shop")))))
    drained = iter([{"requests": 1, "streams": 2}])
    monkeypatch.setattr(in_flight, "drain", lambda *args: did.append(("drain", *args[1:5])) or next(drained))
    monkeypatch.setattr(steps, "_have_ended", lambda *_: True)
    monkeypatch.setattr(steps, "wait", wait)
    monkeypatch.setattr(steps, "contract", lambda move: did.append(("contract",)))
    monkeypatch.setattr(published, "point", lambda *_: None)
    monkeypatch.setattr(serving, "serve", lambda *_: did.append(("serve",)))
    monkeypatch.setattr(serving, "serve_again", lambda *_: did.append(("serve again", sorted(away.marks("shop")))))
    monkeypatch.setattr(history, "note", lambda *_, **__: None)
    settings = {"order": dict.fromkeys(("web", "worker"), "stop-first"), "in_flight": {"requests": 3600, "streams": 30}}
    ports = {"asgi.1": 8188, "web.1": 8150, "worker.1": None}
    return Move(Host.of({}, {}, {}), "shop", 4, ports, 3, settings, "asker"), did


LEFT = [
    ("start", 4, ["asgi.1"]),
    ("healthy", 4, ["asgi.1"]),
    ("end", 3, ["worker.1"], []),
    ("start", 4, ["asgi.1", "worker.1"]),
    ("healthy", 4, ["worker.1"]),
    ("reload", ["web"]),
    ("drain", ["127.0.0.1:8101"], "shop", 40, 0),
    ("end", 3, ["web.1"], ["web"]),
    ("start", 4, ["asgi.1", "web.1", "worker.1"]),
    ("healthy", 4, ["web.1"]),
    ("contract",),
]


def test_a_process_that_listens_is_away_from_the_end_of_the_old_one_until_the_new_one_is_healthy(moved):
    move, did = moved
    for step in (steps.start, steps.health, steps.succeed, steps.switch):
        step(move)
    assert did == [*LEFT, ("serve",)]
    assert away.marks("shop") == {}
    cut = "v3: 1 request cut off, not ended in 40 s (app.shop.grace.web); 2 streams cut off, "
    assert move.told[0] == f"{cut}since what answered them ends before its successor starts (app.shop.order.web)"
    said = r"nginx answered 503 in the place of web for \d\.\d s \(app\.shop\.order\.web\)"
    assert [re.fullmatch(said, each) is not None for each in move.told[1:]] == [True]


def test_a_process_that_listens_is_started_again_where_its_successor_is_refused(moved):
    move, did = moved
    for step in (steps.start, steps.health, steps.succeed):
        step(move)
    did.clear()
    steps.serve_left(move)
    steps.resume(move)
    # It was healthy before nginx sent it requests.
    assert did == [("serve again", ["web"]), ("start again", 3), ("healthy", 3, ["web.1"])]
    assert away.marks("shop") == {}


def test_a_release_that_was_ended_between_the_switch_and_the_link_is_away_until_the_old_one_is_healthy(moved):
    move, did = moved
    for step in (steps.start, steps.succeed, steps.switch):
        step(move)
    did.clear()
    steps.serve_left(move)
    assert did == [("serve again", ["web"])]


def test_an_old_process_that_was_ended_starts_once_the_new_one_has_ended(moved):
    move, did = moved
    for step in (steps.start, steps.succeed):
        step(move)
    did.clear()
    # The run ended here, and the pillar declares again what the old release is.
    back = dataclasses.replace(move, number=3, ports=dict(processes.configured("shop", 3)), asker=None)
    steps.start(back)
    assert did == [("start", 3, ["asgi.1"])]
    assert [*steps._waiting(back)] == ["web.1", "worker.1"]


def test_a_predecessor_that_does_not_end_refuses_the_release(monkeypatch):
    monkeypatch.setattr(processes, "releases", lambda app: [(app, 3), (app, 4)])
    monkeypatch.setattr(processes, "configured", lambda app, number: {"beat.1": None} if number == 3 else {})
    monkeypatch.setattr(store, "graces", lambda app, number: {"beat": 0})
    monkeypatch.setattr(supervisor, "tell", lambda *_: None)
    monkeypatch.setattr(steps, "_have_ended", lambda *_: False)
    monkeypatch.setattr(steps, "LATE", 0)
    move = Move(Host.of({}, {}, {}), "shop", 4, {"beat.1": None}, 3, {"order": {"beat": "stop-first"}})
    with pytest.raises(Refusal, match=r"^beat\.1 of v3 did not end within 0 s$"):
        steps.succeed(move)


@pytest.mark.parametrize(
    "state, pids, ended",
    [("RUNNING", [7], False), ("STOPPING", [7], False), ("STOPPED", [7], False), ("STOPPED", [], True), ("", [], True)],
)
def test_a_process_has_ended_when_nothing_of_it_is_left(monkeypatch, state, pids, ended):
    found = {"shop.v3.beat.1": {"state": state}} if state else {}
    monkeypatch.setattr(supervisor, "info", lambda app, release: found)
    monkeypatch.setattr(scopes, "pids", lambda app, release, name: pids)
    assert steps._have_ended("shop", 3, ["beat.1"]) is ended


@pytest.mark.parametrize("found, asked", [(RECORD, "a"), ({}, "")])
def test_a_release_is_checked_by_its_build_if_that_is_known(monkeypatch, found, asked):
    builds = []

    def ask(host, app, number, sha256, ports, asker):
        builds.append(sha256)
        return None, None

    monkeypatch.setattr(store, "record", lambda app, number: found)
    monkeypatch.setattr(asking, "ask", ask)
    steps.contract(Move(Host.of({}, {}, {}), "shop", 2, {}, 2, {}))
    assert builds == [asked]
