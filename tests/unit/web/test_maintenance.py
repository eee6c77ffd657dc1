"""Maintenance: what an operator may say, what outlasts the run, and what nginx is told of it.

The tests of whole hosts ask nginx itself.
"""

import datetime
import json
import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.host import Host
from saltern.web import maintenance, tree
from saltern.web.maintenance import Notice

NOW = datetime.datetime.now(datetime.UTC)
APPS = {"shop": {"domains": ["shop.example.com"]}, "idle": {"domains": ["idle.example.com"]}, "api": {"domains": []}}


@pytest.fixture
def promoted(monkeypatch, tmp_path):
    """What nginx was given, by path. Its live tree has the site of shop."""
    given = {}
    (tmp_path / "nginx/sites").mkdir(parents=True)
    (tmp_path / "nginx/sites/shop.conf").write_text("include maintenance/shop.conf;\n")
    monkeypatch.setattr(maintenance, "ROOT", str(tmp_path / "said"))
    monkeypatch.setattr(tree, "ROOT", str(tmp_path / "nginx"))
    monkeypatch.setattr(tree, "promote", lambda root, texts: given.update(texts) or {})
    return given


def host(roles=("app", "proxy"), sites=("shop",), others=()):
    pillar = {
        "hosts": {"web1": {"roles": [*roles], "address": "10.0.0.1"}},
        "app": APPS,
        "nginx": {"sites": {app: {} for app in sites}, "guests": {}, "others": [*others]},
    }
    return Host("web1", pillar, "", False, None)


def test_it_is_kept_until_it_is_ended(promoted):
    said = maintenance.begin(host(), "shop", "Back soon", "192.0.2.7, 10.0.0.0/8,192.0.2.7/32")
    assert re.fullmatch(
        r"shop is in maintenance since \S+, by \S+: nginx answers 503 in its place, but to 192\.0\.2\.7, 10\.0\.0\.0/8"
        "; app.maintenance shop off ends it",
        said,
    )
    assert maintenance.told(host(), "shop") == said
    assert maintenance.notes(APPS) == [said]
    assert maintenance.of("shop").allow == ("192.0.2.7", "10.0.0.0/8")
    # A converge writes what is live.
    assert maintenance.snippets({"nginx": {"sites": {"shop": {}}, "guests": {}}}) == promoted
    assert "    default 1;\n    192.0.2.7 0;\n    10.0.0.0/8 0;\n" in promoted["maintenance/shop.conf"]
    assert maintenance.end(host(), "shop") == "shop is no longer in maintenance: it answers by itself"
    assert maintenance.end(host(), "shop") == maintenance.told(host(), "shop") == "shop is not in maintenance"
    assert maintenance.snippets({"nginx": {"sites": {"shop": {}}, "guests": {}}}) == promoted
    assert "    default 0;\n}\n" in promoted["maintenance/shop.conf"]
    assert maintenance.notes(APPS) == []


def test_other_proxies_are_named(promoted):
    for done in (maintenance.begin, maintenance.end, maintenance.end):
        said = done(host(others=["10.0.0.2", "10.0.0.3"]), "shop")
        assert said.endswith("; other proxies are asked by themselves: 10.0.0.2, 10.0.0.3")


REFUSED = {
    "no such app": ("nosuch", {}, "nosuch: no app of this host has this name; expected one of api, idle, shop"),
    "no domain": ("api", {}, "api: has no site; expected an app that nginx serves (app.api: no domains)"),
    "no process": ("idle", {}, "idle: has no site; expected an app that nginx serves (app.idle: no web processes)"),
    "no proxy": (
        "shop",
        {"roles": ["app"]},
        "web1: does not have the role proxy; expected a proxy, which has the sites",
    ),
    "a site of an earlier version": (
        "idle",
        {"sites": ["idle"]},
        "idle: nginx does not have its site yet; converge first: salt-call state.apply",
    ),
}


@pytest.mark.parametrize("app, about, told", REFUSED.values(), ids=REFUSED)
def test_an_app_without_a_site_is_refused(promoted, app, about, told):
    with pytest.raises(CommandExecutionError, match=f"^{re.escape(told)}$"):
        maintenance.begin(host(**about), app)
    assert maintenance.left([]) == []
    assert promoted == {}


MESSAGE = "message: not acceptable; expected text of at most 500 characters, without control characters"
UNTIL = (
    "until: not acceptable; expected a time with its zone, such as 2026-11-30T06:00Z, or a span from now, such as "
    "+90m, +2h or +1d"
)
ALLOW = "allow: '{}' is no address; expected addresses or networks, such as 192.0.2.7,10.0.0.0/8"
WRONG = {
    "no text": ({"message": True}, MESSAGE),
    "a long text": ({"message": "x" * 501}, MESSAGE),
    "a control character": ({"message": "\x1b[2J"}, MESSAGE),
    "no UTF-8": ({"message": "\udcff"}, MESSAGE),
    "no address": ({"allow": "10.0.0.1; return 200"}, ALLOW.format("10.0.0.1; return 200")),
    "a host in a network": ({"allow": "10.0.0.1/8"}, ALLOW.format("10.0.0.1/8")),
    "a name": ({"allow": ["::1", "office\n.example.com"]}, ALLOW.format("office .example.com")),
    "a time without a zone": ({"until": "2036-01-01T00:00"}, UNTIL),
    "a time as YAML reads it": ({"until": 1350}, UNTIL),
    "no time": ({"until": "tomorrow"}, UNTIL),
    "a time that is too far": ({"until": "9999-12-31T23:59-23:00"}, UNTIL),
    "a span of nothing": ({"until": "+0h"}, UNTIL),
    "a time that is over": (
        {"until": "2020-01-01T00:00Z"},
        "until: 2020-01-01T00:00Z is over; expected a time to come",
    ),
}


@pytest.mark.parametrize("given, told", WRONG.values(), ids=WRONG)
def test_what_is_not_acceptable_is_told_and_nothing_changes(promoted, given, told):
    with pytest.raises(CommandExecutionError, match=f"^{re.escape(told)}$"):
        maintenance.begin(host(), "shop", **given)
    assert maintenance.of("shop") is None
    assert promoted == {}


def test_what_nginx_refuses_leaves_all_as_it_was(promoted, monkeypatch):
    def refuse(*_):
        raise CommandExecutionError("nginx refuses")

    maintenance.begin(host(), "shop", "one")
    before = maintenance.of("shop")
    monkeypatch.setattr(tree, "promote", refuse)
    for refused in (lambda: maintenance.begin(host(), "shop", "two"), lambda: maintenance.end(host(), "shop")):
        with pytest.raises(CommandExecutionError, match="nginx refuses"):
            refused()
        assert maintenance.of("shop") == before


def value(text, variable):
    """Return what nginx reads as a variable's value."""
    word = re.search(rf"\${variable}_of_shop \{{\n(?:    default '';\n)?    .+? \"(.*)\";\n", text)[1]
    assert len(word.encode()) < 4096
    assert not re.search(r'(?<!\\)(\\\\)*"', word)
    assert "$" not in word
    return re.sub(r"\\(.)", r"\1", word)


MESSAGES = [
    '"six"',
    "it's $5 ${uri}",
    "<b>\\o/</b> &amp; {x};",
    "one\ntwo",
    "é 日本 ❤️",
    '"' * 500,
    "$" * 500,
    "🧂" * 500,
]


@pytest.mark.parametrize("message", MESSAGES)
def test_any_message_is_one_word_to_nginx_and_text_to_clients(message):
    text = maintenance.snippet("shop", Notice(message=message))
    assert json.loads(value(text, "problem")) == {"title": "Service Unavailable", "status": 503, "detail": message}
    page = value(text, "page")
    shown = re.search("<p>(.*)</p>", page)[1].replace("<br>", "\n")
    assert not re.search('[<>"]', shown)
    assert value(text, "retry_after") == "300"


def test_an_app_that_is_away_for_a_moment_is_not_said_to_be_in_maintenance():
    text = maintenance.snippet("shop", None)
    assert json.loads(value(text, "problem"))["detail"] in value(text, "page")
    assert '$retry_after_of_shop {\n    default \'\';\n    "~ 503:$" "10";\n}\n' in text
    assert "aintenance" not in text.partition("\n")[2]


def test_the_end_that_is_expected_is_told_to_clients():
    text = maintenance.snippet("shop", Notice(until="2036-01-02T03:04:05+00:00"))
    assert value(text, "retry_after") == "Wed, 02 Jan 2036 03:04:05 GMT"
    assert json.loads(value(text, "problem"))["until"] == "2036-01-02T03:04:05Z"
    assert "<p>It is expected to end by 2036-01-02 03:04 UTC.</p>" in value(text, "page")


@pytest.mark.parametrize("span, hours", [("+90m", 1.5), ("+2h", 2), ("+1d", 24)])
def test_an_end_may_be_a_span_and_it_goes_on_after_it(promoted, span, hours):
    maintenance.begin(host(), "shop", until=span)
    said = maintenance.of("shop")
    until = datetime.datetime.fromisoformat(said.until)
    assert abs((until - NOW).total_seconds() / 3600 - hours) < 0.1
    assert f"; it is to end by {said.until}; " in maintenance.note("shop", said, NOW)
    assert f"; it was to end by {said.until}; " in maintenance.note("shop", said, until)


DAMAGED = ["", "{", "[]", "{}", '{"allow": 7}', '{"allow": ["x"]}', '{"allow": [], "message": ""}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_leaves_the_app_closed(promoted, tmp_path, text):
    (tmp_path / "said").mkdir()
    (tmp_path / "said/shop.json").write_text(text)
    assert maintenance.of("shop") == Notice()
    assert maintenance.end(host(), "shop").startswith("shop is no longer in maintenance")


def test_what_was_said_of_an_app_that_is_gone_is_forgotten(promoted):
    assert maintenance.left(APPS) == []
    maintenance.begin(host(), "shop")
    assert maintenance.left(APPS) == []
    assert maintenance.left({}) == ["shop"]
    maintenance.forget(["shop"])
    assert maintenance.left({}) == []
