"""What is declared, compared with what is on a host."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern.attachments import config
from saltern.host import Host
from saltern.releases import plan, store, supervisor


def test_configs_are_compared_by_name():
    old, new = {"A": b"1", "B": b"1", "C": b"1"}, {"B": b"1", "C": b"2", "D": b"1"}
    assert plan.compared(old, new) == {"added": ["D"], "changed": ["C"], "removed": ["A"]}
    assert plan.compared(old, old) == {}


def test_a_release_that_is_held_and_lacks_something_is_told_and_left_alone(monkeypatch):
    lost, damage = {"/srv/apps/shop/releases/2/env/KEY": "is missing"}, []
    monkeypatch.setattr(store, "record", lambda app, number: {"build": "b"})
    monkeypatch.setattr(store, "lost", lambda app, number: dict(lost))
    monkeypatch.setattr(supervisor, "displaced", lambda *_: {})
    salt = {"build.damage": lambda app, sha256: "".join(damage)}
    host = Host.of(salt, {"app": {"shop": {"build": {"sha256": "a"}}}}, {})
    assert plan._lost(host, "shop", 2, {}) == {"/srv/apps/shop/releases/2/env/KEY": {"old": "is missing", "new": None}}
    with pytest.raises(CommandExecutionError, match=r"^shop: v2 is held, .*/releases/2/env/KEY is missing\. .*unhold"):
        plan._lost(host, "shop", 2, {"release": 2})
    lost.clear()
    assert plan._lost(host, "shop", 2, {"release": 2}) == {}
    damage.append(".venv/bin/python is missing")
    with pytest.raises(CommandExecutionError, match=r"builds/b is damaged: \.venv/bin/python is missing\. "):
        plan._lost(host, "shop", 2, {"release": 2})


ROUTED = {"formation": {"web": 1, "asgi": 1}, "site": {"routes": {"/ws/": {"process": "asgi"}}}}


@pytest.mark.parametrize(
    "record, expected",
    [
        ({"listening": ["asgi"]}, True),
        ({"listening": []}, False),
        ({}, False),
        ({"listening": ["asgi", "flower"]}, False),
    ],
)
def test_which_types_listen_is_a_part_of_a_release(monkeypatch, record, expected):
    monkeypatch.setattr(config, "environ", lambda host, app: {})
    monkeypatch.setattr(store, "environ", lambda app, number: {})
    monkeypatch.setattr(store, "record", lambda app, number: {"build": "a", "grace": {}} | record)
    settings = {"build": {"sha256": "a"}, "grace": {}} | ROUTED
    host = Host.of({}, {}, {})
    assert plan.is_same(host, "shop", 2, settings) is expected
    # A release from before there were routes is what an app without routes declares.
    unrouted = settings | {"site": {"routes": {}}}
    assert plan.is_same(host, "shop", 2, unrouted) is (record.get("listening", []) == [])


AWAY = {
    "web": ({"web": "stop-first"}, {"web.1": 8101, "asgi.1": 8139}, ["web"]),
    "both": ({"web": "stop-first", "asgi": "stop-first"}, {"web.1": 8101, "asgi.1": 8139}, ["asgi", "web"]),
    "one that is new, or gone, or had no port": ({"asgi": "stop-first"}, {"web.1": 8101, "asgi.1": None}, []),
    "one that does not listen": ({"beat": "stop-first"}, {"web.1": 8101, "beat.1": None}, []),
}


@pytest.mark.parametrize("order, serving, expected", AWAY.values(), ids=AWAY)
def test_a_dry_run_names_the_types_that_would_be_away(monkeypatch, order, serving, expected):
    monkeypatch.setattr(config, "environ", lambda host, app: {})
    monkeypatch.setattr(store, "environ", lambda app, number: {})
    monkeypatch.setattr(store, "record", lambda app, number: {})
    monkeypatch.setattr(supervisor, "used", lambda app, number: serving)
    settings = {"build": {"sha256": "a"}, "grace": {}, "order": order} | ROUTED
    found = plan._novelty(Host.of({}, {}, {}), "shop", settings, 2, 3, {"web.1": 8150, "asgi.1": 8188})
    assert [*found.get("away", [])] == expected
    # At first there is nothing to end.
    assert "away" not in plan._novelty(Host.of({}, {}, {}), "shop", settings, None, 1, {"web.1": 8101})


def test_a_build_without_the_type_of_a_route_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(store, "build", lambda app, sha256: {"processes": {"web": "serve"}})
    settings = ROUTED | {"order": {}, "count": {}, "jobs": {}}
    said = (
        r"^app\.shop\.formation\.asgi: the Procfile of build b has no such process type; expected one of web, so not$"
    )
    with pytest.raises(CommandExecutionError, match=said):
        plan.check_formation("shop", settings, "b", ", so not")
    settings["formation"] = {"web": 1}
    with pytest.raises(
        CommandExecutionError, match=r"^app\.shop\.site\.routes\./ws/: the Procfile of build b has no such"
    ):
        plan.check_formation("shop", settings, "b")
