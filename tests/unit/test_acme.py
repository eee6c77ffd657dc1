"""Certificates by ACME: when one is asked for, what is asked, and certbot's reason in one line."""

import datetime
import json

import pytest
from salt.exceptions import CommandExecutionError

from saltern.tls import certificate
from saltern.web import tree

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
DOMAINS = ["shop.example.com", "www.example.com"]
SERVER = "https://acme.example.com/directory"


def after(**time):
    return NOW + datetime.timedelta(**time)


@pytest.fixture(scope="session")
def issued():
    """A key and a certificate that lasts a year."""
    return certificate.issue_for(certificate.new_authority("x", NOW), "shop", DOMAINS, NOW)


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
def test_a_certificate_is_asked_for_with_a_reason(acme, issued, given, expected):
    whole = {"text": issued, "domains": DOMAINS, "server": SERVER, "wanted": SERVER, "now": NOW} | given
    assert acme.reason(**whole) == expected


def test_the_reason_is_one_line(acme):
    proof = (
        "Saving debug log to /var/log/letsencrypt/letsencrypt.log\n"
        "Requesting a certificate for a.example.com and b.example.com\n\n"
        "Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported "
        "these problems:\n"
        "  Domain: a.example.com\n  Type:   dns\n  Detail: DNS problem: NXDOMAIN\n\n"
        "  Domain: b.example.com\n  Type:   unauthorized\n  Detail: returned 502\n\n"
        "Hint: The Certificate Authority failed to download the temporary challenge files.\n\n"
        "Some challenges have failed.\n"
        "Ask for help or search for solutions at https://community.letsencrypt.org.\n"
    )
    assert acme.failure(proof) == "a.example.com: DNS problem: NXDOMAIN; b.example.com: returned 502"
    ends = "Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile\n"
    begins = "Saving debug log to /x\nAn unexpected error occurred:\n"
    for said, expected in UNREACHED.items():
        assert acme.failure(f"{begins}{said}\n{ends}") == expected
        assert acme.UNREACHED.search(said)
    limited = "acme.messages.Error: urn:ietf:params:acme:error:rateLimited :: There were too many requests :: too many"
    assert acme.failure(f"{begins}{limited}\n{ends}") == limited
    assert not acme.UNREACHED.search(limited)
    assert acme.failure("") == "no reason given"


UNREACHED = {
    "ValueError: Requesting acme.example.com/directory: Connection refused": (
        "acme.example.com/directory is not reached: Connection refused"
    ),
    "requests.exceptions.SSLError: HTTPSConnectionPool(host='acme.example.com', port=443): Max retries exceeded with "
    "url: /dir (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify "
    "failed: self-signed certificate (_ssl.c:992)')))": (
        "acme.example.com:443 is not reached: certificate verify failed: self-signed certificate"
    ),
    "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='acme.example.com', port=443): Max retries exceeded "
    "with url: /dir (Caused by NameResolutionError('Failed to resolve [Errno -2] Name or service not known'))": (
        "acme.example.com:443 is not reached: [Errno -2] Name or service not known"
    ),
}


class Host:
    """A host with certbot, which answers as it is told."""

    def __init__(self, acme, dunders, monkeypatch, tmp_path):
        self.acme, self.monkeypatch, self.commands, self.written = acme, monkeypatch, [], []
        self.answer = {"retcode": 0, "stdout": "", "stderr": ""}
        for word in ("CONFIG", "REFUSED"):
            monkeypatch.setattr(acme, word, str(tmp_path / word))
        self.directory = tmp_path / "CONFIG"
        self.settings = {"server": SERVER, "email": "", "agree_terms": True}
        pillar = {"nginx": {"tls": {"acme": self.settings}}, "app": {"shop": {"domains": DOMAINS}}}
        salt = {
            "cmd.run_all": self.run,
            "site_certificate.is_pair": bool,
            "site_certificate.write": lambda *arguments: self.written.append(arguments),
            "site_certificate.snippets": lambda: {"tls/shop.conf": "snippet", "tls/faq.conf": "other"},
        }
        monkeypatch.setattr(tree, "promote", lambda *arguments: self.written.append(arguments))
        dunders(acme, salt=salt, pillar=pillar)
        self.at(NOW)

    def at(self, now):
        self.monkeypatch.setattr(self.acme, "_now", lambda: now)

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
def host(acme, dunders, monkeypatch, tmp_path):
    return Host(acme, dunders, monkeypatch, tmp_path)


def test_what_was_issued_is_read(host, acme):
    assert acme.pair("shop") is None
    host.lineage("shop", "certificates\n")
    assert acme.pair("shop") == "key\ncertificates\n"


def test_all_domains_are_asked_for_at_once_and_no_address_is_needed(host, acme):
    command = acme.command("shop")
    assert command[-4:] == ["--domain", DOMAINS[0], "--domain", DOMAINS[1]]
    assert command[command.index("--server") + 1] == SERVER
    assert "--register-unsafely-without-email" in command
    host.settings["email"] = "ops@example.com"
    command = acme.command("shop")
    assert command[command.index("--email") + 1] == "ops@example.com"


def test_what_is_issued_is_served(host, acme):
    host.lineage("shop", "certificates\n")
    acme.issue("shop")
    assert host.written == [
        ("shop", "key\ncertificates\n"),
        ("/etc/nginx", {"tls/shop.conf": "snippet"}),
    ]


REFUSED = {"retcode": 1, "stdout": "", "stderr": "  Domain: www.example.com\n  Type:   dns\n  Detail: NXDOMAIN\n"}
ABSENT = {"retcode": 1, "stdout": "", "stderr": "ValueError: Requesting acme.example.com/dir: Connection refused\n"}


def test_what_was_refused_is_not_asked_for_again_at_once(host, acme):
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
            acme.issue("shop")
        assert (str(error.value), len(host.commands)) == (said, asked)
    # What is asked differently is asked at once, and so is what the clock went back for.
    host.settings["server"] = "https://other.example.com"
    assert acme.refused("shop") == ""
    host.settings["server"] = SERVER
    assert acme.refused("shop") != ""
    host.at(NOW - datetime.timedelta(days=1))
    assert acme.refused("shop") == ""
    assert host.written == []


def test_an_authority_that_is_not_reached_is_asked_again_at_once(host, acme):
    host.answer = ABSENT
    for _ in range(2):
        with pytest.raises(CommandExecutionError, match="/dir is not reached: Connection refused"):
            acme.issue("shop")
    assert len(host.commands) == 2


def test_a_broken_note_of_a_refusal_is_none(host, acme, tmp_path):
    (tmp_path / "REFUSED").mkdir()
    for text in ("", "{", "[]", json.dumps({"time": "x"})):
        (tmp_path / "REFUSED/shop.json").write_text(text)
        assert acme.refused("shop") == ""


def test_only_our_own_lineages_are_gone(host, acme):
    assert acme.gone(["shop"]) == []
    for app in ("shop", "faq"):
        host.lineage(app, "certificates\n")
    (host.directory / "renewal/mail.example.com.conf").write_text("")
    assert acme.gone(["shop"]) == ["faq"]
    acme.remove(["faq"])
    assert host.commands == [["certbot", "delete", "--non-interactive", "--cert-name", "saltern-faq"]]


def test_an_app_that_is_not_declared_is_told_by_its_name(host, acme):
    with pytest.raises(CommandExecutionError, match=r"^tickets: no app of this host .*; expected one of shop$"):
        acme.due("tickets")
