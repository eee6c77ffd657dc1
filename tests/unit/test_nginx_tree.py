"""The state of nginx's tree: what it waits for, and what it reports."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern.tls import site as certificates
from saltern.web import in_flight, maintenance, peers, tree, workers
from tests.unit.web.sites import site

DRAINS = [(site("app1"), [{"10.0.0.1:8100"}]), (site(hosts=["app1", "app2"]), []), (site(), [])]


@pytest.mark.parametrize("now, waits", DRAINS)
def test_a_drain_waits_for_the_requests_in_flight(nginx_tree_states, dunders, monkeypatch, tmp_path, now, waits):
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers/shop.conf").write_text(peers.written(site()))
    waited = []
    monkeypatch.setattr(certificates, "snippets", lambda _: {})
    monkeypatch.setattr(maintenance, "snippets", lambda _: {})
    monkeypatch.setattr(tree, "rendered", lambda *_: {"peers/shop.conf": peers.written(now)})
    monkeypatch.setattr(tree, "promote", lambda *_: {})
    monkeypatch.setattr(workers, "is_stale", lambda *_: False)
    monkeypatch.setattr(workers, "old", lambda: [7])

    def drain(old, servers, *_):
        assert old() == [7]
        waited.append(servers)
        return {"requests": 2, "streams": 0}

    monkeypatch.setattr(in_flight, "drain", drain)
    pillar = {"nginx": {"sites": {"shop": {"timeout": 20}, "faq": {"timeout": 10}}, "peers": {}, "guests": {}}}
    pillar["app"] = {"shop": {"in_flight": {"requests": 90, "streams": 5}}}
    dunders(nginx_tree_states, salt={}, pillar=pillar, opts={"test": True, "cachedir": ""})
    assert nginx_tree_states.current(str(tmp_path), "template", [])["result"] is (None if now != site() else True)
    assert waited == []
    dunders(nginx_tree_states, opts={"test": False, "cachedir": ""})
    done = nginx_tree_states.current(str(tmp_path), "template", [])
    assert done["result"] is True
    assert waited == waits
    assert ("2 requests still under way there after 90 s" in done["comment"]) is bool(waits)


@pytest.mark.parametrize("of", ["files", "certificates"])
def test_what_nginx_refuses_is_told_before_it_is_to_read_it(nginx_tree_states, dunders, monkeypatch, of):
    told = []

    def promote(root, texts):
        raise CommandExecutionError("nginx refuses the configuration; the live one stays: conf.d/mine.conf:1")

    monkeypatch.setattr(tree, "rendered", lambda *_: {})
    monkeypatch.setattr(tree, "changes", lambda *_: {})
    monkeypatch.setattr(tree, "promote", promote)
    monkeypatch.setattr(workers, "is_stale", lambda *_: True)
    monkeypatch.setattr(workers, "runs", lambda: True)
    monkeypatch.setattr(workers, "reload", lambda: told.append(True))
    pillar = {"nginx": {"sites": {}, "peers": {}, "guests": {}}, "app": {}}
    dunders(nginx_tree_states, salt={}, pillar=pillar, opts={"test": False, "cachedir": ""})
    name = "/etc/nginx"
    ret = nginx_tree_states.current(name, "", []) if of == "files" else nginx_tree_states.mod_watch(name)
    assert (ret["result"], ret["changes"], told) == (False, {}, [])
    assert ret["comment"].endswith("conf.d/mine.conf:1")


def test_maintenance_of_an_app_that_is_gone_is_forgotten_and_told_before(
    nginx_tree_states, dunders, monkeypatch, tmp_path
):
    monkeypatch.setattr(maintenance, "ROOT", str(tmp_path))
    monkeypatch.setattr(tree, "rendered", lambda *_: {})
    monkeypatch.setattr(tree, "changes", lambda *_: {})
    monkeypatch.setattr(tree, "promote", lambda *_: {})
    monkeypatch.setattr(workers, "is_stale", lambda *_: False)
    for app in ("shop", "faq"):
        (tmp_path / f"{app}.json").write_text("{}")
    changes = {f"{tmp_path}/shop.json": {"old": "there", "new": None}}
    pillar = {"nginx": {"sites": {}, "peers": {}, "guests": {}}, "app": {"faq": {}}}
    for is_dry, result, left in ((True, None, changes), (False, True, changes), (False, True, {})):
        dunders(nginx_tree_states, salt={}, pillar=pillar, opts={"test": is_dry, "cachedir": ""})
        ret = nginx_tree_states.current("/etc/nginx", "", [])
        assert (ret["result"], ret["changes"]) == (result, left)
    assert [path.name for path in tmp_path.iterdir()] == ["faq.json"]
