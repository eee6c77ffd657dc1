"""The steps of a move to a release."""

import contextlib

import pytest
from salt.exceptions import CommandExecutionError

from saltern.attachments import config
from saltern.contracts import ask as asking
from saltern.host import Host
from saltern.releases import deploy, migration, plan, steps, store
from saltern.releases.move import Move
from saltern.releases.refusal import Refusal

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
