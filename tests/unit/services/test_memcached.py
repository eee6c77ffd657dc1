"""memcached: who may log in to an instance, how much memory it may use, and when it is removed."""

import datetime
import json
import os
from urllib.parse import unquote, urlsplit

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.attachments import parts
from saltern.host import Host
from saltern.places import places
from saltern.services import memcached
from saltern.services.steps import Run
from saltern.system import systemd

MEMCACHED = services.formulas()["memcached"]
PASSWORD, BEFORE = "a/password:0123456789%@", "the-one-before-0123456789"
LOGIN, OLD = MEMCACHED.login("shop", PASSWORD), MEMCACHED.login("shop", BEFORE)


@pytest.fixture
def on_a_host(tmp_path, monkeypatch):
    """A function that returns a run on a host with the instance shop, below a directory of the test's."""
    monkeypatch.setattr(memcached, "LOGINS", str(tmp_path / "logins"))
    monkeypatch.setattr(memcached, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(memcached, "_remote", lambda port, own: [])
    (tmp_path / "units").mkdir()
    acts = []
    monkeypatch.setattr(os, "kill", lambda pid, number: acts.append((pid, number.name)))

    def of(dry=False, releases=None, users=(), listen=(), running=True, instances=("shop",)):
        monkeypatch.setattr(systemd, "started", lambda unit: 1 if running else None)
        monkeypatch.setattr(systemd, "shown", lambda unit, name: {name: "4711" if running else "0"})
        monkeypatch.setattr(memcached, "holders", lambda host, service, leaving, staying: releases or {})
        monkeypatch.setattr(memcached, "users", lambda host, service, port, staying: [*users])
        monkeypatch.setattr(systemd, "read", lambda: acts.append("daemon-reload"))
        answers = {
            "file.group_to_gid": lambda group: os.getgid(),
        }

        def ask(name, *arguments):
            return answers[name](*arguments) if name in answers else acts.append((name, *arguments)) or True

        instance = {"owner": "shop", "port": 8089, "password": PASSWORD}
        settings = {"instances": dict.fromkeys(instances, instance), "overlap": 168, "listen": [*listen]}
        pillar = {"memcached": settings, "hosts": {"one": {"roles": ["memcached", "app"], "address": "10.0.0.1"}}}
        host = Host("one", pillar, "/etc/salt/host.key", dry, ask)
        return Run(host, [], lambda name: False)

    of.acts, of.logins, of.units = acts, tmp_path / "logins", tmp_path / "units"
    return of


def done(run, step, name="shop"):
    """Run a step as the state does; return its comment and its changes."""
    todo = MEMCACHED.steps()[step](run, name)
    if todo.changes and not run.host.is_dry:
        todo.act()
    return todo.comment, dict(todo.changes)


def declared(directory, name, port=8089):
    """Write the file that marks an instance as ours."""
    path = directory / f"memcached@{name}.service.d/saltern.conf"
    path.parent.mkdir()
    path.write_text(f"# The instance {name}, which belongs to the app shop and listens at the port {port}. Managed …\n")
    return path.parent


def noted(directory, *pairs):
    """Write the logins of an instance."""
    directory.mkdir(exist_ok=True)
    (directory / "shop.logins").write_text("".join(f"{user}:{word}\n" for user, word in pairs))


@pytest.mark.parametrize("secret", [PASSWORD, "x" * 16, "!#$&'()*+,/:;=?@[]~"])
def test_a_password_comes_back_from_its_url(secret):
    target = {"memcached": "shop", "address": "127.0.0.1", "port": 8089}
    url = urlsplit(MEMCACHED.url(target, "shop", secret))
    assert (url.scheme, url.hostname, url.port, url.path) == ("memcacheds", "127.0.0.1", 8089, "/")
    assert (url.username, unquote(url.password)) == (MEMCACHED.login("shop", secret), secret)
    assert url.query == "ssl_ca_certs=/etc/ssl/saltern/ca.pem"
    assert MEMCACHED.is_of(url, "8089", "10.0.0.1")
    known = {"instances": {"pages": {"owner": "shop", "port": 8089}}}
    assert MEMCACHED.told(url, "shop", known) == "pages"
    assert MEMCACHED.told(url, "faq", known) == ""


def test_it_comes_in_parts_without_a_database():
    target = {"memcached": "shop", "address": "127.0.0.1", "port": 8089, "as": "parts"}
    url = MEMCACHED.url(target, "shop", PASSWORD)
    expected = {"CACHE_HOST": "127.0.0.1", "CACHE_PORT": "8089", "CACHE_USER": LOGIN, "CACHE_PASSWORD": PASSWORD}
    expected["CACHE_SSL_CA_CERTS"] = "/etc/ssl/saltern/ca.pem"
    assert parts.variables("CACHE", target, url) == expected
    assert parts.names("CACHE", target) == [*expected]
    assert parts.read("CACHE", target, expected) == url


def test_an_instance_has_its_memory_and_what_connections_need_beside():
    settings = {"memory": "64mb", "maxclients": 1000, "listen": []}
    settings["instances"] = {
        "faq": {"owner": "faq", "port": 8189},
        "shop": {"owner": "shop", "port": 8089, "memory": "2gb", "maxclients": 10},
        "replaced": {"owner": None},
    }
    assert MEMCACHED.complete(settings) == []
    found = MEMCACHED.allowed(settings, places)
    assert found["memcached shop"] == ([8089], 10)
    ports, count = found["memcached"]
    assert (8089 in ports, 8189 in ports, len(ports), count) == (False, True, 219, 1000)
    faq, shop = settings["instances"]["faq"], settings["instances"]["shop"]
    assert (faq["megabytes"], faq["places"], faq["ceiling"]) == (64, 3000, 72 + 64 + 281)
    assert (shop["megabytes"], shop["places"], shop["ceiling"]) == (2048, 30, 2304 + 64 + 2)
    assert MEMCACHED.listeners(settings) == {"memcached faq": 8189, "memcached shop": 8089}
    assert MEMCACHED.units(settings) == ["memcached@faq.service", "memcached@shop.service"]


def test_two_instances_of_one_app_are_refused():
    instances = {"a": {"owner": "shop"}, "b": {"owner": "shop"}, "c": {"owner": "faq"}}
    assert MEMCACHED.complete({"memory": "64mb", "instances": instances}) == [
        "app.shop.attach: has the memcached instances a and b; expected one, for which an app has a port"
    ]


def test_who_may_log_in_is_written_and_read_by_the_instance_once(on_a_host):
    expected = {"shop": {"old": None, "new": [LOGIN]}}
    assert done(on_a_host(dry=True), "logins")[1] == expected
    assert not on_a_host.logins.exists()
    assert done(on_a_host(), "logins")[1] == expected
    assert (on_a_host.logins / "shop.logins").read_text() == f"{LOGIN}:{PASSWORD}\n"
    assert (on_a_host.logins / "shop.logins").stat().st_mode & 0o777 == 0o640
    assert on_a_host.acts == [(4711, "SIGHUP")]
    assert done(on_a_host(), "logins")[1] == {}


def test_an_instance_that_does_not_run_is_not_reloaded(on_a_host):
    done(on_a_host(running=False), "logins")
    assert on_a_host.acts == []


def test_an_earlier_login_stays_and_another_apps_login_does_not(on_a_host):
    noted(on_a_host.logins, (OLD, BEFORE), ("faq_0a0a0a", "another-app-0123456789"))
    assert done(on_a_host(), "logins")[1] == {"shop": {"old": ["faq_0a0a0a", OLD], "new": sorted([LOGIN, OLD])}}
    assert (on_a_host.logins / "shop.logins").read_text() == f"{LOGIN}:{PASSWORD}\n{OLD}:{BEFORE}\n"
    assert done(on_a_host(), "logins")[1] == {}


def test_a_run_that_was_cut_off_before_the_instance_read_is_made_up_for(on_a_host):
    noted(on_a_host.logins, (LOGIN, PASSWORD))
    assert done(on_a_host(), "logins")[1]
    assert on_a_host.acts == [(4711, "SIGHUP")]


def test_memcached_reads_no_more_than_eight_logins(on_a_host):
    pairs = [(f"shop_{number:06x}", "x" * 16) for number in range(12)]
    noted(on_a_host.logins, *pairs)
    since = {user: f"2026-11-{index + 1:02}T00:00:00+00:00" for index, (user, _) in enumerate(pairs)}
    (on_a_host.logins / "shop.json").write_text(json.dumps({"logins": [], "since": since}))
    done(on_a_host(), "logins")
    users = [line.partition(":")[0] for line in (on_a_host.logins / "shop.logins").read_text().splitlines()]
    # The newest login.
    assert users == [LOGIN, *(f"shop_{number:06x}" for number in range(11, 4, -1))]


def test_an_earlier_login_closes_when_no_release_has_it(on_a_host):
    noted(on_a_host.logins, (LOGIN, PASSWORD), (OLD, BEFORE))
    done(on_a_host(), "logins")
    comment, changes = done(on_a_host(releases={OLD: ["shop v3"]}), "retired")
    assert (changes, f"the login {OLD} stays open for shop v3" in comment) == ({}, True)
    # Other hosts run apps, and this host cannot see whether they have converged.
    comment, changes = done(on_a_host(listen=["10.0.0.1"]), "retired")
    assert (changes, f"the login {OLD} stays open for other app hosts until" in comment) == ({}, True)
    expected = {OLD: {"old": "replaced", "new": "closed to logins"}}
    assert done(on_a_host(dry=True), "retired")[1] == expected
    assert done(on_a_host(), "retired")[1] == expected
    assert (on_a_host.logins / "shop.logins").read_text() == f"{LOGIN}:{PASSWORD}\n"
    assert done(on_a_host(), "retired")[1] == done(on_a_host(), "logins")[1] == {}


def test_the_wait_for_other_hosts_has_an_end(on_a_host):
    noted(on_a_host.logins, (LOGIN, PASSWORD), (OLD, BEFORE))
    today = datetime.datetime.now(datetime.UTC)
    for hours, closed in ((167, []), (169, [OLD])):
        since = (today - datetime.timedelta(hours=hours)).isoformat(timespec="seconds")
        (on_a_host.logins / "shop.json").write_text(json.dumps({"logins": [], "since": {OLD: since}}))
        assert [*done(on_a_host(dry=True, listen=["10.0.0.1"]), "retired")[1]] == closed


def test_an_instance_that_nobody_attaches_is_removed_with_all_its_files(on_a_host):
    kept, gone = declared(on_a_host.units, "shop"), declared(on_a_host.units, "old")
    on_a_host.logins.mkdir()
    (on_a_host.logins / "old.logins").write_text("shop_0a0a0a:x\n")
    assert done(on_a_host(users=["shop v2"]), "retired") == (
        "No other instance is there; old runs on for shop v2",
        {},
    )
    expected = {"old": {"old": "present", "new": None}}
    assert done(on_a_host(dry=True), "retired")[1] == expected
    assert done(on_a_host(), "retired")[1] == expected
    acts = [("service.stop", "memcached@old"), ("service.disable", "memcached@old"), "daemon-reload"]
    assert on_a_host.acts == acts
    assert (kept.exists(), gone.exists(), (on_a_host.logins / "old.logins").exists()) == (True, False, False)


def test_an_instance_gives_way_to_the_one_that_takes_its_port(on_a_host):
    declared(on_a_host.units, "old"), declared(on_a_host.units, "other", port=8189)
    assert done(on_a_host(), "replaced")[1] == {"old": {"old": "present", "new": None}}


def test_a_unit_of_somebody_elses_is_left_alone(on_a_host):
    path = on_a_host.units / "memcached@own.service.d/saltern.conf"
    path.parent.mkdir()
    path.write_text("[Service]\n")
    assert done(on_a_host(), "retired")[1] == {}


def test_an_instance_that_does_not_answer_is_named_with_where_it_says_why(on_a_host, monkeypatch):
    monkeypatch.setattr(memcached, "SETTLED", 0)
    run = on_a_host()
    run.host.pillar["memcached"]["instances"]["shop"]["port"] = 1
    with pytest.raises(CommandExecutionError, match=r"shop: memcached at port 1 does not answer: .*journalctl -u"):
        done(run, "served")
    assert not MEMCACHED.is_ready(run.host, "shop", lambda: LOGIN)
