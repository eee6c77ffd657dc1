"""Certificates by ACME: when one is requested, what is requested, and what follows a refusal."""

import datetime
import json

import pytest
from salt.exceptions import CommandExecutionError

from saltern import host as hosts
from saltern.tls import acme, certbot, certificate, site
from saltern.web import tree
from tests.unit.tls.moments import DOMAINS, NOW, after

SERVER = "https://acme.example.com/directory"


REASONS = {
    "all is well": ({}, ""),
    "nothing is there": ({"text": None}, "no certificate yet"),
    "a domain came": ({"domains": [*DOMAINS, "a.example.com"]}, "the one before is for other domains"),
    "a domain went": ({"domains": DOMAINS[:1]}, "the one before is for other domains"),
    "another order": ({"domains": DOMAINS[::-1]}, ""),
    "another authority": ({"wanted": "https://other.example.com"}, "the one before is another authority's"),
    "the timer has some time left": ({"now": after(days=290)}, ""),
    "the timer did not renew": (
        {"now": after(days=293)},
        "the one before ends on 2027-01-02, and certbot's timer has not renewed it",
    ),
}


@pytest.mark.parametrize("given, expected", REASONS.values(), ids=REASONS)
def test_a_certificate_is_asked_for_with_a_reason(for_shop, given, expected):
    whole = {"text": for_shop, "domains": DOMAINS, "server": SERVER, "wanted": SERVER, "now": NOW} | given
    assert acme.reason(**whole) == expected


class Host:
    """A host with a certbot that gives these answers."""

    def __init__(self, monkeypatch, tmp_path):
        self.monkeypatch, self.commands, self.written = monkeypatch, [], []
        self.answer = {"retcode": 0, "stdout": "", "stderr": ""}
        monkeypatch.setattr(certbot, "CONFIG", str(tmp_path / "CONFIG"))
        monkeypatch.setattr(acme, "REFUSED", str(tmp_path / "REFUSED"))
        self.directory = tmp_path / "CONFIG"
        self.settings = {"server": SERVER, "email": "", "agree_terms": True}
        self.tls = {"source": "acme", "acme": self.settings}
        self.site = {"redirects": {"domains": []}}
        pillar = {"nginx": {"tls": self.tls}, "app": {"shop": {"domains": DOMAINS, "site": self.site}}}
        self.host = hosts.Host.of({"cmd.run_all": self.run}, pillar, {})
        snippets = {"tls/shop.conf": "snippet", "tls/faq.conf": "other"}
        monkeypatch.setattr(certificate, "is_pair", bool)
        monkeypatch.setattr(site, "snippets", lambda pillar: snippets)
        monkeypatch.setattr(site, "write", lambda host, *arguments: self.written.append(arguments))
        monkeypatch.setattr(tree, "promote", lambda *arguments: self.written.append(arguments))
        self.at(NOW)

    def at(self, now):
        self.monkeypatch.setattr(certificate, "now", lambda: now)

    def run(self, command, **_options):
        self.commands.append(command)
        return self.answer

    def lineage(self, app, text):
        live = self.directory / f"live/saltern-{app}"
        live.mkdir(parents=True)
        (live / "privkey.pem").write_text("key\n")
        (live / "fullchain.pem").write_text(text)
        (self.directory / "renewal").mkdir(exist_ok=True)
        (self.directory / f"renewal/saltern-{app}.conf").write_text(f"[renewalparams]\nserver = {SERVER}\n")


@pytest.fixture
def host(monkeypatch, tmp_path):
    return Host(monkeypatch, tmp_path)


def test_what_was_issued_is_read(host):
    assert certbot.pair("shop") is None
    host.lineage("shop", "certificates\n")
    assert certbot.pair("shop") == "key\ncertificates\n"


def test_all_domains_are_asked_for_at_once_and_no_address_is_needed(host):
    command = certbot.command(host.settings, "shop", DOMAINS)
    assert command[-4:] == ["--domain", DOMAINS[0], "--domain", DOMAINS[1]]
    assert command[command.index("--server") + 1] == SERVER
    assert "--register-unsafely-without-email" in command
    host.settings["email"] = "ops@example.com"
    command = certbot.command(host.settings, "shop", DOMAINS)
    assert command[command.index("--email") + 1] == "ops@example.com"


def test_what_is_issued_is_served(host):
    host.lineage("shop", "certificates\n")
    acme.issue(host.host, "shop")
    assert host.written == [
        ("shop", "key\ncertificates\n"),
        ("/etc/nginx", {"tls/shop.conf": "snippet"}),
    ]


REFUSED = {"retcode": 1, "stdout": "", "stderr": "  Domain: www.example.com\n  Type:   dns\n  Detail: NXDOMAIN\n"}
ABSENT = {"retcode": 1, "stdout": "", "stderr": "ValueError: Requesting acme.example.com/dir: Connection refused\n"}


def test_what_was_refused_is_not_asked_for_again_at_once(host):
    host.answer = REFUSED
    for now, asked, said in (
        (NOW, 1, "shop has no new certificate, nginx serves what it has: www.example.com: NXDOMAIN"),
        (
            after(minutes=14),
            1,
            "shop was refused, and is not asked for again before 03:19 UTC: www.example.com: NXDOMAIN",
        ),
        (after(minutes=16), 2, "shop has no new certificate, nginx serves what it has: www.example.com: NXDOMAIN"),
    ):
        host.at(now)
        with pytest.raises(CommandExecutionError) as error:
            acme.issue(host.host, "shop")
        assert (str(error.value), len(host.commands)) == (said, asked)
    # A changed request is sent at once, and so is one after the clock was set back.
    host.settings["server"] = "https://other.example.com"
    assert acme.refused(host.host, "shop") == ""
    host.settings["server"] = SERVER
    assert acme.refused(host.host, "shop") != ""
    host.at(NOW - datetime.timedelta(days=1))
    assert acme.refused(host.host, "shop") == ""
    assert host.written == []


def test_an_authority_that_is_not_reached_is_asked_again_at_once(host):
    host.answer = ABSENT
    for _ in range(2):
        with pytest.raises(CommandExecutionError, match="/dir is not reached: Connection refused"):
            acme.issue(host.host, "shop")
    assert len(host.commands) == 2


def test_a_broken_note_of_a_refusal_is_ignored(host, tmp_path):
    (tmp_path / "REFUSED").mkdir()
    for text in ("", "{", "[]", json.dumps({"time": "x"})):
        (tmp_path / "REFUSED/shop.json").write_text(text)
        assert acme.refused(host.host, "shop") == ""


def test_only_our_own_lineages_are_gone(host):
    assert certbot.gone(["shop"]) == []
    for app in ("shop", "faq"):
        host.lineage(app, "certificates\n")
    (host.directory / "renewal/mail.example.com.conf").write_text("")
    assert certbot.gone(["shop"]) == ["faq"]
    acme.remove(host.host, ["faq"])
    assert host.commands == [["certbot", "delete", "--non-interactive", "--cert-name", "saltern-faq"]]


def test_an_app_that_is_not_declared_is_told_by_its_name(host):
    with pytest.raises(CommandExecutionError, match=r"^tickets: no app of this host .*; expected one of shop$"):
        acme.due(host.host, "tickets")


@pytest.mark.parametrize("asked", [acme.due, acme.issue, acme.refused])
@pytest.mark.parametrize("of", ["the pillar", "the host's own authority"])
def test_none_is_asked_for_where_an_app_has_its_certificate_from_elsewhere(host, of, asked):
    if of == "the pillar":
        host.site["certificate"] = "given"
    else:
        host.tls["source"] = "authority"
    with pytest.raises(CommandExecutionError) as error:
        asked(host.host, "shop")
    assert str(error.value) == (
        f"shop: has its certificate from {of}, not by ACME; expected nginx.tls.source: acme, and no "
        "app.shop.site.certificate"
    )
    assert host.commands == []
