"""Mail: the relay is every app's of its host, what it needs is told by path, and its queue is kept."""

import json
import os
import subprocess
import time
from urllib.parse import urlsplit

import pytest

from saltern import kept, services
from saltern.attachments import config, parts
from saltern.attachments.derived import derive
from saltern.services import mail
from saltern.services.steps import Run
from saltern.settings.check import check
from saltern.settings.defaults import with_defaults
from saltern.system import systemd
from tests.unit.attachments.declared import app
from tests.unit.rows import host

MAIL = services.formulas()["mail"]
SMART = {"host": "smtp.example.com", "domain": "shop.example.com"}
ONE = {"one": host("app", "mail")}
ATTACH = {"EMAIL_URL": {"mail": "default"}}


@pytest.fixture
def derived(schemas):
    """A function that derives the settings of a host from apps and what is said of the relay."""

    def of(apps, relay, hosts=ONE, minion_id="one"):
        declared = {"app": apps} | ({"mail": {"relays": {"default": relay}}} if relay is not None else {})
        assert check(schemas, declared) == []
        complete = {name: with_defaults(schema, declared.get(name, {})) for name, schema in schemas.items()}
        return derive(complete, hosts, minion_id)

    return of


def test_all_apps_of_a_host_have_the_same_relay(derived):
    both = {"shop": app(attach=ATTACH), "faq": app(8100, attach={"EMAIL": {"mail": "default", "as": "parts"}})}
    found, mistakes = derived(both, SMART)
    assert mistakes == []
    url = MAIL.url(found["app"]["shop"]["attach"]["EMAIL_URL"], "shop", "")
    assert url == "smtp://127.0.0.1:25"
    target = found["app"]["faq"]["attach"]["EMAIL"]
    # As Django's own settings are called.
    assert parts.variables("EMAIL", target, config.url(target, "faq")) == {
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": "25",
    }
    assert parts.read("EMAIL", target, {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": "25"}) == url
    relay = found["mail"]["relays"]["default"]
    assert (relay["port"], relay["user"], relay["name"], relay["queued"]) == (587, "", "one.shop.example.com", 120)
    assert MAIL.units(found["mail"]) == ["saltern-mail.service"]
    assert MAIL.openings(found["mail"]) == {}


def test_a_catcher_takes_the_place_of_the_smart_host(derived):
    found, mistakes = derived({"shop": app(attach=ATTACH)}, {"catch": True, "user": "shop", "port": 465})
    relay = found["mail"]["relays"]["default"]
    assert (mistakes, relay["host"], relay["port"], relay["user"]) == ([], "127.0.0.1", 1025, "")
    # A host whose id has its domain keeps it.
    found, _ = derived({"shop": app(attach=ATTACH)}, SMART, {"web.example.com": host("app", "mail")}, "web.example.com")
    assert found["mail"]["relays"]["default"]["name"] == "web.example.com"


PATH = "mail.relays.default"
EXPECTED = "missing; expected a name such as"
MISTAKES = {
    "nothing is said": (
        ATTACH,
        None,
        ONE,
        [
            f"{PATH}.host: {EXPECTED} smtp.example.com, or catch: true beside",
            f"{PATH}.domain: {EXPECTED} shop.example.com, or catch: true beside",
        ],
    ),
    "no password": (
        ATTACH,
        SMART | {"user": "shop"},
        ONE,
        [f"{PATH}.password: missing; expected text, in pillar/secrets, since there is a user"],
    ),
    "no user": (
        ATTACH,
        SMART | {"password": "pw"},
        ONE,
        [f"{PATH}.user: missing; expected text, since there is a password"],
    ),
    "an app host without a relay": (
        ATTACH,
        SMART,
        ONE | {"two": host("app", address="10.0.0.2")},
        [
            "app.shop.attach.EMAIL_URL.mail: two has no relay; expected the role mail at each app host, in "
            "pillar/hosts.yaml"
        ],
    ),
    "another app's": (
        {"EMAIL_URL": {"mail": "default", "access": "read"}},
        SMART,
        ONE,
        ["app.shop.attach.EMAIL_URL.access: the relay is for all apps of its host; expected it without"],
    ),
    "no app": ({}, SMART, ONE, [f"{PATH}: no app attaches it; expected the name of an attached mail"]),
}


@pytest.mark.parametrize("attach, relay, hosts, expected", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_path(derived, attach, relay, hosts, expected):
    assert derived({"shop": app(attach=attach)}, relay, hosts)[1] == expected


@pytest.mark.parametrize(
    "url, expected",
    [
        ("smtp://127.0.0.1:25", True),
        ("smtp://127.0.0.1:587", False),
        ("smtp://mail.example.com:25", False),
        ("smtp://127.0.0.1:port", False),
        ("text", False),
    ],
)
def test_a_url_leads_to_the_relay_or_elsewhere(url, expected):
    def is_of():
        return MAIL.is_of(urlsplit(url), "default", "10.0.0.1")

    if expected:
        assert is_of()
    else:
        with pytest.raises(ValueError):
            is_of()


# --- On a host --------------------------------------------------------------------------------------------------------


@pytest.fixture
def relayed(on_a_host, monkeypatch, tmp_path):
    """A host with a relay, a queue, and what was done with units."""
    done = []
    monkeypatch.setattr(mail, "UNIT_FILE", str(tmp_path / "unit"))
    monkeypatch.setattr(mail, "PASSWORD", str(tmp_path / "password"))
    monkeypatch.setattr(mail, "CONFIGURATION", str(tmp_path / "main.cf"))
    monkeypatch.setattr(mail, "SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "kept"))
    monkeypatch.setattr(mail, "users", lambda host, service, name, staying: list(on_a_host.pillar.get("users", [])))
    monkeypatch.setattr(systemd, "switch", lambda unit, on: done.append((unit, on)))
    monkeypatch.setattr(systemd, "reload", lambda unit: done.append(unit))
    monkeypatch.setattr(systemd, "read", lambda: None)
    monkeypatch.setattr(systemd, "loaded", lambda unit: 1.0)
    for name in ("unit", "password"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "spool/deferred/8").mkdir(parents=True)
    on_a_host.pillar["mail"] = {"relays": {"default": {"owner": "shop", "late": 60}}}
    return on_a_host, tmp_path, done


def step(relayed, name, changed=()):
    return MAIL.steps()[name](Run(relayed[0], [], lambda path: path in changed), "default")


def test_a_changed_file_is_read_and_a_dry_run_says_so(relayed):
    on, directory, done = relayed
    assert step(relayed, "served").changes == {}
    object.__setattr__(on, "is_dry", True)
    assert step(relayed, "served", {mail.PASSWORD}).changes.keys() == {"saltern-mail"}
    # One that is about to start reads it anyway.
    assert step(relayed, "served", {mail.PASSWORD, "saltern-mail"}).changes == {}
    object.__setattr__(on, "is_dry", False)
    (directory / "main.cf").write_text("")
    step(relayed, "served").act()
    assert done == ["saltern-mail"]


def test_a_relay_that_no_app_has_ends_and_its_queue_is_kept(relayed):
    on, directory, done = relayed
    assert step(relayed, "retired").changes == {}
    on.pillar["mail"]["relays"]["default"]["owner"] = None
    on.pillar["users"] = ["shop v3"]
    assert step(relayed, "retired").comment == "The relay runs on for shop v3"
    on.pillar["users"] = []
    assert MAIL.kept(on) == {}
    (directory / "spool/deferred/8/8ABC").write_text("x" * 2_000_000)
    # As long as it runs, it delivers them.
    assert MAIL.kept(on) == {}
    ending = step(relayed, "retired")
    assert ending.comment == "The relay was stopped; salt-call app.orphans lists the mail that is kept"
    ending.act()
    assert done == [("saltern-mail", False)]
    assert not (directory / "password").exists()
    (found,) = MAIL.kept(on).values()
    assert (found["app"], found["size"], found["remove"]) == ("mail of several apps", "2.0 MB", "postsuper -d ALL")
    assert found["since"]
    assert step(relayed, "retired").changes == {}


def test_mail_that_waits_for_long_is_told(relayed, monkeypatch):
    now = int(time.time())
    lines = [json.dumps({"arrival_time": now - age}) for age in (10, 90 * 60)]
    monkeypatch.setattr(mail.shutil, "which", lambda name: name)
    answers = iter(["", lines[0], "\n".join(lines)])
    monkeypatch.setattr(
        mail.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, next(answers), "")
    )
    assert [MAIL.full(relayed[0]) for _ in range(3)] == [
        [],
        [],
        ["default (2 mails are queued, the oldest for 90 minutes)"],
    ]
