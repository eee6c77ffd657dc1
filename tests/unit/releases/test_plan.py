"""What is declared, compared with what is on a host."""

import pytest
from salt.exceptions import CommandExecutionError

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
