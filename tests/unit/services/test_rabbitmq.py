"""RabbitMQ: changes to the broker, and who may use which vhost."""

import copy
import dataclasses
import datetime
import json
import os
import types
from urllib.parse import urlsplit

import pytest
from salt.exceptions import CommandExecutionError

from saltern import kept as notes_of
from saltern import services
from saltern.host import Host
from saltern.releases import process, store
from saltern.services import rabbitmq_broker
from saltern.services.steps import Run
from saltern.system import systemd

RABBITMQ = services.formulas()["rabbitmq"]
SECRET = "correct-horse-battery"
LOGIN = RABBITMQ.login("shop", SECRET)
BEFORE = "shop_0a0a0a"
NOTHING = {"users": [], "vhosts": [], "permissions": [], "parameters": []}


def plan(found, secret=SECRET, app="shop", most=200, others=(), **more):
    login = RABBITMQ.login(app, secret)
    return rabbitmq_broker.planned("shop", app, login, secret, most, found, set(others), **more)


def with_new(found, new):
    """Return a broker's state after it got additions."""
    keys = {"users": ["name"], "vhosts": ["name"], "permissions": ["user", "vhost"], "parameters": ["vhost"]}
    merged = {}
    for kind, names in keys.items():
        entries = {tuple(entry[name] for name in names): entry for entry in [*found[kind], *new[kind]]}
        merged[kind] = copy.deepcopy(list(entries.values()))
    return merged


MADE = with_new(NOTHING, plan(NOTHING)[1])


def changed(kind, **fields):
    """Return a declared broker's state with fields of the only entry of a kind changed."""
    found = copy.deepcopy(MADE)
    found[kind][0] |= fields
    return found


def test_a_url_says_no_more_than_celery_takes():
    url = RABBITMQ.url({"rabbitmq": "shop", "address": "10.0.0.2", "port": 5671}, "my-shop", "p/w@:#?%&0123456789")
    assert url.endswith("@10.0.0.2:5671/shop")
    parts = urlsplit(url)
    assert (parts.scheme, parts.query, RABBITMQ.identity(parts)) == ("amqps", "", "shop")


def test_an_app_that_takes_no_url_has_its_parts():
    assert RABBITMQ.parts() == ["HOST", "PORT", "USER", "PASSWORD", "VHOST"]


def test_a_new_broker_is_given_all_and_is_then_as_declared():
    changes, new = plan(NOTHING)
    assert changes == {
        "vhost": {"old": None, "new": "shop"},
        "connections": {"old": "another number", "new": 200},
        "login": {"old": None, "new": LOGIN},
        "permissions": {"old": None, "new": "shop"},
    }
    assert SECRET not in json.dumps(new)
    assert plan(with_new(NOTHING, new)) == ({}, NOTHING)


DRIFT = {
    "another number of connections": (
        changed("parameters", value={"max-connections": 9}),
        {"connections": {"old": "another number", "new": 200}},
    ),
    "another password": (
        changed("users", password_hash=rabbitmq_broker.hashed("another", b"salt")),
        {"password": {"old": "another", "new": "the attachment's"}},
    ),
    "no password": (
        changed("users", password_hash=""),
        {"password": {"old": "another", "new": "the attachment's"}},
    ),
    "an administrator": (
        changed("users", tags=["administrator"]),
        {"login": {"old": "other rights", "new": LOGIN}},
    ),
    "no limit": (changed("users", limits={}), {"login": {"old": "other rights", "new": LOGIN}}),
    "fewer rights": (changed("permissions", write="^$"), {"permissions": {"old": None, "new": "shop"}}),
    "nobody's vhost": (changed("vhosts", metadata={}), {"vhost": {"old": None, "new": "shop"}}),
}


@pytest.mark.parametrize("found, expected", DRIFT.values(), ids=DRIFT)
def test_what_differs_is_told_and_mended(found, expected):
    changes, new = plan(found)
    assert changes == expected
    assert plan(with_new(found, new)) == ({}, NOTHING)


def test_the_login_of_a_password_before_stays_and_is_noted_once():
    other = "another-correct-horse"
    changes, new = plan(MADE, secret=other)
    login = RABBITMQ.login("shop", other)
    assert changes["login"] == {"old": [LOGIN], "new": login}
    assert changes["replaced"] == {"old": [LOGIN], "new": login}
    found = with_new(MADE, new)
    (tag,) = next(user["tags"] for user in found["users"] if user["name"] == LOGIN)
    assert rabbitmq_broker.REPLACED.fullmatch(tag)
    assert plan(found, secret=other) == ({}, NOTHING)
    # Back to the earlier password: its login is no longer a replaced one, and the other login is.
    changes, new = plan(found)
    assert changes.keys() == {"login", "replaced"}
    assert {user["name"]: bool(user["tags"]) for user in with_new(found, new)["users"]} == {LOGIN: False, login: True}


def test_a_login_that_is_declared_for_another_vhost_is_no_earlier_login():
    changes, _ = plan(MADE, secret="another-correct-horse", others=[LOGIN])
    assert "replaced" not in changes


def test_the_data_of_another_app_is_refused_until_an_operator_hands_it_over():
    with pytest.raises(CommandExecutionError, match="the vhost shop holds the data of shop; expected"):
        plan(MADE, app="faq")
    changes, new = plan(MADE, app="faq", handed_over=True)
    assert changes["vhost"] == {"old": "shop", "new": "faq"}
    assert rabbitmq_broker.marked(with_new(MADE, new)) == {"shop": "faq"}


@pytest.mark.parametrize(
    "peer, expected",
    [([10, 0, 0, 4], "10.0.0.4"), ([0, 0, 0, 0, 0, 0, 0, 1], "::1"), ("app1", "app1")],
)
def test_an_address_is_written_as_it_is_known_elsewhere(peer, expected):
    assert rabbitmq_broker.address_of(peer) == expected


def test_a_host_bounds_by_the_most_that_an_app_may_have():
    vhosts = {"shop": {"owner": "shop", "max_connections": 500}, "faq": {"owner": "faq"}, "replaced": {"owner": None}}
    settings = {"max_connections": 200, "vhosts": vhosts}
    assert RABBITMQ.allowed(settings, lambda count: 3 * count) == {"rabbitmq": ([5671], 500)}
    assert RABBITMQ.allowed(settings | {"vhosts": {}}, lambda count: 3 * count) == {"rabbitmq": ([5671], 200)}
    # All vhosts of an app share one port.
    vhosts["faq"]["owner"] = "shop"
    assert RABBITMQ.allowed(settings, lambda count: 3 * count) == {"rabbitmq": ([5671], 700)}


# --- Who is closed out ------------------------------------------------------------------------------------------------


@pytest.fixture
def retired(tmp_path, monkeypatch):
    """A function that runs the step; it returns the step, the questions to the broker, and the notes."""

    def run(found, vhosts, releases=(), connected=(), dry=False, listen=(), kept=(), act=True):
        asked, notes = [], []
        monkeypatch.setattr(systemd, "started", lambda unit: 1.0)
        monkeypatch.setattr(rabbitmq_broker, "definitions", lambda: found)
        monkeypatch.setattr(rabbitmq_broker, "clients", lambda: {pair: {address} for pair, address in connected})
        monkeypatch.setattr(rabbitmq_broker, "ctl", lambda *arguments: asked.append(" ".join(arguments)))
        environs = {(app, number): {"BROKER": url.encode()} for app, number, url in releases}
        monkeypatch.setattr(process, "releases", lambda: list(environs))
        monkeypatch.setattr(store, "record", lambda app, number: {})
        monkeypatch.setattr(store, "environ", lambda app, number: environs[app, number])
        salt = {"release.plan": lambda app: {"number": 2}}
        monkeypatch.setattr(notes_of, "of", lambda kind, name: {"app": name} if name in kept else {})
        monkeypatch.setattr(notes_of, "note", lambda kind, name, app: notes.append((name, app)))
        (tmp_path / "host.key").write_text("key\n")
        pillar = {
            "app": {"shop": {}},
            "hosts": {"one": {"roles": ["broker", "app"], "address": "10.0.0.1"}},
            "rabbitmq": {"vhosts": vhosts, "overlap": 168, "listen": list(listen), "max_connections": 200},
        }
        host = Host.of({}, pillar, {"conf_file": str(tmp_path / "minion"), "id": "one", "test": dry})
        host = dataclasses.replace(host, ask=lambda name, *arguments: salt[name](*arguments))
        step = RABBITMQ.steps()["retired"](Run(host, [], lambda name: False), "rabbitmq")
        if act:
            step.act()
        return step, asked, notes

    return run


SHOP = {"shop": {"owner": "shop", "password": SECRET}}
URL = f"amqps://{LOGIN}:{SECRET}@127.0.0.1:5671/shop"


def test_what_is_attached_stays_open_and_nothing_is_asked(retired):
    step, asked, notes = retired(MADE, SHOP, act=False)
    assert (step.changes, asked, notes) == ({}, [], [])


def test_a_vhost_that_no_app_attaches_is_closed_and_kept(retired):
    step, asked, notes = retired(MADE, {})
    assert step.changes == {"shop": {"old": "open", "new": "closed to logins"}}
    assert (asked, notes) == ([f"delete_user {LOGIN}"], [("shop", "shop")])
    # The login is closed by now.
    closed = MADE | {"users": [], "permissions": []}
    assert retired(closed, {}, kept=["shop"], act=False)[0].changes == {}


def test_a_vhost_stays_open_for_a_release_of_this_host_and_for_another_host(retired):
    step, *_ = retired(MADE, {}, releases=[("shop", 1, URL)], act=False)
    assert (step.changes, step.comment) == ({}, "shop stays open for shop v1")
    step, *_ = retired(MADE, {}, connected=[((LOGIN, "shop"), "10.0.0.4")], act=False)
    assert (step.changes, step.comment) == ({}, "shop stays open for 10.0.0.4, which is connected")
    # Connections of this host end with its releases.
    assert retired(MADE, {}, connected=[((LOGIN, "shop"), "127.0.0.1")], act=False)[0].changes


def replaced(hours):
    """Return the state of a broker in which a password was replaced so many hours ago."""
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)
    tag = f"replaced-{since.strftime(rabbitmq_broker.TIME)}"
    found = copy.deepcopy(MADE)
    found["users"].append(found["users"][0] | {"name": BEFORE, "tags": [tag]})
    found["permissions"].append(found["permissions"][0] | {"user": BEFORE})
    return found


OLD = f"amqps://{BEFORE}:old@127.0.0.1:5671/shop"
STAYS = {
    "nobody": ({}, ""),
    "a release": ({"releases": [("shop", 2, OLD)]}, "shop v2"),
    "a connection": ({"connected": [((BEFORE, "shop"), "10.0.0.4")]}, "10.0.0.4, which is connected"),
    "a release that the run would stop": (
        {"releases": [("shop", 1, OLD)], "connected": [((BEFORE, "shop"), "127.0.0.1")], "dry": True},
        "",
    ),
    "other hosts": ({"listen": ["10.0.0.1"]}, "other app hosts until "),
}


@pytest.mark.parametrize("state, reason", STAYS.values(), ids=STAYS)
def test_the_login_of_a_password_before_is_closed_when_nobody_has_it(retired, state, reason):
    step, asked, notes = retired(replaced(hours=1), SHOP, act=not reason, **state)
    assert notes == []
    if reason:
        assert (step.changes, asked) == ({}, [])
        assert step.comment.startswith(f"the login {BEFORE} stays open for {reason}")
    else:
        assert step.changes == {BEFORE: {"old": "replaced", "new": "closed to logins"}}
        assert asked == [f"delete_user {BEFORE}"]


def test_the_hours_for_other_hosts_end(retired):
    assert retired(replaced(hours=200), SHOP, listen=["10.0.0.1"], act=False)[0].changes.keys() == {BEFORE}


def test_a_login_with_another_vhost_loses_the_one(retired):
    found = replaced(hours=1)
    found["permissions"].append(found["permissions"][0] | {"user": BEFORE, "vhost": "other"})
    assert retired(found, SHOP)[1] == [f"clear_permissions -p shop {BEFORE}"]


# --- The other steps, and what is asked beside them ----------------------------------------------------------------


@pytest.fixture
def on(tmp_path, monkeypatch):
    """A function that returns a run on a host with a broker in this state, or with none running."""

    def run(found, dry=False, kept=None, changed=()):
        def answer():
            if found is None:
                raise CommandExecutionError("rabbitmqctl export_definitions: does not answer")
            return found

        monkeypatch.setattr(systemd, "started", lambda unit: None if found is None else 1.0)
        monkeypatch.setattr(rabbitmq_broker, "definitions", answer)
        monkeypatch.setattr(rabbitmq_broker, "HOME", str(tmp_path))
        monkeypatch.setattr(notes_of, "of", lambda kind, name: kept or {})
        (tmp_path / "host.key").write_text("key\n")
        pillar = {"hosts": {"one": {"address": "10.0.0.1"}}, "rabbitmq": {"vhosts": SHOP, "max_connections": 200}}
        host = Host.of({}, pillar, {"conf_file": str(tmp_path / "minion"), "id": "one", "test": dry})
        return Run(host, [], lambda name: name in changed)

    return run


def test_a_dry_run_tells_all_of_a_broker_that_is_yet_to_come_and_nothing_of_one_that_is_down(on, tmp_path):
    vhost = RABBITMQ.steps()["vhost"]
    assert vhost(on(None, dry=True), "shop").changes.keys() == {"vhost", "connections", "login", "permissions"}
    (tmp_path / "mnesia/rabbit@localhost").mkdir(parents=True)
    step = vhost(on(None, dry=True), "shop")
    assert (step.changes, "does not run yet" in step.comment) == ({}, True)
    with pytest.raises(CommandExecutionError, match="does not answer"):
        vhost(on(None), "shop")


def test_a_vhost_that_was_kept_is_attached_again_by_its_app_alone(on):
    vhost = RABBITMQ.steps()["vhost"]
    assert vhost(on(MADE), "shop").changes == {}
    step = vhost(on(MADE, kept={"app": "shop"}), "shop")
    assert step.changes == {"kept": {"old": "kept", "new": "attached"}}
    with pytest.raises(CommandExecutionError, match="the vhost shop holds the data of faq; expected a name of its own"):
        vhost(on(MADE, kept={"app": "faq"}), "shop")


def test_the_user_whose_password_everybody_knows_goes(on, monkeypatch):
    asked = []
    monkeypatch.setattr(rabbitmq_broker, "ctl", lambda *arguments: asked.append(arguments))
    assert rabbitmq_broker.guest(on(MADE), "guest").changes == {}
    everybody = MADE | {"users": [*MADE["users"], {"name": "guest"}]}
    step = rabbitmq_broker.guest(on(everybody), "guest")
    step.act()
    assert (step.changes, asked) == ({"guest": {"old": "a user", "new": None}}, [("delete_user", "guest")])


def test_a_broker_that_starts_in_the_run_reads_its_certificate_then(on):
    assert rabbitmq_broker.served(on(None), "/none.pem").changes == {}
    assert rabbitmq_broker.served(on(MADE, changed=["rabbitmq-server"]), "/none.pem").changes == {}
    # A dry run also reports what follows the written file.
    assert rabbitmq_broker.served(on(MADE, dry=True, changed=["/none.pem"]), "/none.pem").changes


@pytest.mark.parametrize("found, ready", [(MADE, True), (NOTHING, False), (None, False)])
def test_a_vhost_is_ready_only_when_it_is_as_declared(on, found, ready):
    run = on(found)
    assert RABBITMQ.is_ready(run.host, "shop", lambda: LOGIN) is ready


def test_what_the_broker_takes_over_is_on_no_command_line_and_gone_after(tmp_path, monkeypatch):
    told, asked = tmp_path / "told.json", []

    def ctl(*arguments):
        asked.append(arguments)
        assert told.stat().st_mode & 0o777 == 0o400
        assert json.loads(told.read_text()) == MADE
        raise CommandExecutionError("rabbitmqctl import_definitions: failed")

    user = types.SimpleNamespace(pw_uid=os.getuid(), pw_gid=os.getgid())
    monkeypatch.setattr(rabbitmq_broker.pwd, "getpwnam", lambda name: user)
    monkeypatch.setattr(rabbitmq_broker, "TOLD", str(told))
    monkeypatch.setattr(rabbitmq_broker, "ctl", ctl)
    with pytest.raises(CommandExecutionError):
        rabbitmq_broker.import_(MADE)
    assert asked == [("import_definitions", str(told), "--format", "json")]
    assert list(tmp_path.iterdir()) == []
    rabbitmq_broker.import_(NOTHING)
    assert len(asked) == 1


def test_what_is_kept_is_listed_with_its_size_as_long_as_it_is_there(monkeypatch):
    monkeypatch.setattr(rabbitmq_broker, "definitions", lambda: MADE)
    monkeypatch.setattr(
        rabbitmq_broker, "ctl", lambda *arguments: '[\n{"message_bytes":7000000},{"message_bytes":500000}]'
    )
    note = {"app": "shop", "since": "2026-11-28T00:00:00+00:00", "notes": ["/var/lib/saltern/kept/rabbitmq/shop.kept"]}
    notes = {"shop": note, "gone": note}

    def on(vhosts, noted):
        monkeypatch.setattr(notes_of, "listed", lambda kind: noted)
        return Host("one", {"rabbitmq": {"vhosts": vhosts}}, "", False, None)

    assert RABBITMQ.kept(on({}, notes)) == {
        "shop": {
            "app": "shop",
            "size": "7.5 MB",
            "since": "2026-11-28T00:00:00+00:00",
            "remove": "rabbitmqctl delete_vhost shop && rm /var/lib/saltern/kept/rabbitmq/shop.kept",
        }
    }
    assert RABBITMQ.kept(on({"shop": {"owner": "shop"}}, notes)) == {}
    # A host without a broker has no notes, and asks nothing.
    monkeypatch.setattr(rabbitmq_broker, "definitions", None)
    assert RABBITMQ.kept(on({}, {})) == {}
