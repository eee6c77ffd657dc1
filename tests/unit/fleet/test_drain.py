"""Draining: which hosts get requests that should not, and what becomes of a drained host."""

import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.fleet import drain
from saltern.host import Host
from saltern.releases import store
from saltern.web import in_flight, tree, workers

SERVING = "server 10.0.0.1:8100 down; # app1\nserver 10.0.0.2:8100 down; # app2\n"
OUT = "server 10.0.0.1:8100 max_fails=0; # app1\n# server 10.0.0.2:8100 down; # app2 is out\n"
DRAINED = OUT.replace("app2 is out", "app2 is drained is out")


@pytest.mark.parametrize(
    "text, hosts, out, expected",
    [
        (SERVING, ["app2"], True, {"tickets": ["app2"]}),
        (OUT, ["app2"], True, {}),
        (OUT, ["app2"], False, {"tickets": ["app2"]}),
        (SERVING, ["app2"], False, {}),
        (SERVING, ["app1", "app2"], True, {"tickets": ["app1", "app2"]}),
        (DRAINED, ["app2"], True, {}),
        (DRAINED, ["app2"], False, {}),
        (SERVING, ["app9"], True, {}),
        (SERVING, ["app9"], False, {}),
    ],
)
def test_who_gets_requests(text, hosts, out, expected):
    assert drain.contrary({"tickets": text}, hosts, out) == expected


def proxy_of(*names, roles=("proxy",), alone=False, apps=None):
    """Return the host proxy1, whose site is balanced over the app hosts of these names; no names: there is no site."""
    sites = {"tickets": {"servers": [{"id": name} for name in names]}} if names else {}
    row = {"roles": list(roles), "address": "10.0.0.9"}
    pillar = {"app": apps or {}, "hosts": {"proxy1": row}, "nginx": {"peers": sites, "alone": alone}}
    return Host.of({}, pillar, {"id": "proxy1"})


@pytest.mark.parametrize("names", ["app2", ["app2"]], ids=["as text", "in a list"])
@pytest.mark.parametrize("age, is_over", [(1, True), (-1, False)])
def test_a_host_is_out_when_nginx_has_read_that_it_is(monkeypatch, tmp_path, names, age, is_over):
    (tmp_path / "peers").mkdir()
    path = tmp_path / "peers/tickets.conf"
    path.write_text(OUT)
    written = path.stat().st_mtime
    waited = []

    def wait(old, *arguments):
        assert old() == [7]
        waited.append(arguments)
        return {"requests": 0, "streams": 1}

    monkeypatch.setattr(in_flight, "drain", wait)
    monkeypatch.setattr(workers, "old", lambda: [7])
    drains = {"tickets": {"requests": 90, "streams": 5}, "faq": {"requests": 60, "streams": 9}}
    proxy = proxy_of("app1", "app2", apps={app: {"in_flight": limits} for app, limits in drains.items()})
    monkeypatch.setattr(tree, "ROOT", str(tmp_path))
    monkeypatch.setattr(drain, "PEERS", str(tmp_path / "peers"))
    monkeypatch.setattr(workers, "_workers", lambda pid_file: {1: "nginx: worker process"})
    monkeypatch.setattr(workers, "_started", lambda _: written + age)
    if is_over:
        assert re.fullmatch(r"0\.\d s; 1 stream still under way there after 9 s", drain.wait(proxy, names))
        assert waited == [(["10.0.0.2:8100"], None, 90, 9, "app2")]
    else:
        with pytest.raises(CommandExecutionError, match=r"proxy1 still sends .*nginx has not read"):
            drain.wait(proxy, names, timeout=0.3)


@pytest.mark.parametrize(
    "proxy, names, told",
    [
        (proxy_of("app1", roles=["app"]), "app1", "proxy1: does not have the role proxy; expected a proxy"),
        (
            proxy_of("app1", "app2"),
            ["app9", "app1", "app8"],
            "app8, app9: no app host of this proxy has this name; expected one of app1, app2",
        ),
        (
            proxy_of(roles=["proxy", "app"], alone=True),
            "app1",
            "app1: no app host of this proxy has this name; expected one of proxy1",
        ),
    ],
)
def test_a_host_that_is_no_proxy_and_names_of_no_app_host_are_refused(proxy, names, told):
    with pytest.raises(CommandExecutionError) as refused:
        drain.wait(proxy, names, timeout=0)
    assert str(refused.value) == told


@pytest.mark.parametrize(
    "proxy, name", [(proxy_of(), "app9"), (proxy_of(roles=["proxy", "app"], alone=True), "proxy1")]
)
def test_a_proxy_without_sites_and_a_host_that_is_its_own_proxy_have_nobody_to_wait_for(
    monkeypatch, tmp_path, proxy, name
):
    monkeypatch.setattr(drain, "PEERS", str(tmp_path))
    monkeypatch.setattr(workers, "is_stale", lambda *_, **__: False)
    monkeypatch.setattr(workers, "old", list)
    assert re.fullmatch(r"0\.\d s", drain.wait(proxy, name))


def test_a_file_that_is_just_written_is_no_site(monkeypatch, tmp_path):
    monkeypatch.setattr(drain, "PEERS", str(tmp_path))
    for name in ("tickets.conf", "tickets.conf.new"):
        (tmp_path / name).write_text(SERVING)
    assert drain._sites() == {"tickets": SERVING}


@pytest.fixture
def releases(monkeypatch, tmp_path):
    """The serving release of each app on a host that is not drained."""
    found = {"faq": 3, "tickets": 7}
    monkeypatch.setattr(drain, "MARK", str(tmp_path / "mark"))
    pillar = {"app": dict.fromkeys(found), "hosts": {"app1": {"roles": ["app"]}, "db1": {"roles": ["database"]}}}
    monkeypatch.setattr(store, "current", found.get)
    monkeypatch.setattr(store, "created", lambda app, number: found.get("created", 1_700_000_000.0))
    salt = {"saltutil.is_running": lambda fun: found.get(fun, [])}
    found["host"] = Host.of(salt, pillar, {"id": "app1"})
    return found


def test_a_host_that_is_as_it_was_is_put_back(releases):
    assert drain.undo(releases["host"]) == "takes requests"
    assert drain.begin(releases["host"]) == "takes no requests"
    assert drain.begin(releases["host"]) == "takes no requests already"
    assert drain.undo(releases["host"]) == "takes requests again, with the releases from before"
    assert not drain.is_drained()


@pytest.mark.parametrize("run", ["state.*", "release.*"])
def test_a_host_whose_run_goes_on_stays_out(releases, run):
    drain.begin(releases["host"])
    releases[run] = [{"pid": 1}]
    assert drain.undo(releases["host"]).startswith("takes no requests, and its run is still under way")
    assert drain.is_drained()


@pytest.mark.parametrize("other", [{"faq": 4}, {"created": 1_700_000_100.0}], ids=["number", "release of that number"])
def test_a_host_with_another_release_stays_out_until_somebody_puts_it_back(releases, other):
    drain.begin(releases["host"])
    releases |= other
    # A second drain, by the next attempt, still knows which release served before the first.
    drain.begin(releases["host"])
    assert drain.undo(releases["host"]) == "takes no requests; drain.end has it take them as it is"
    assert drain.is_drained()
    assert (drain.end(), drain.end()) == ("takes requests again", "takes requests already")
