"""A host's certificates: mistakes in the pillar's, and what a host that is alone issues itself."""

import functools
import json
import os
import pwd
import types

import pytest
from salt.exceptions import CommandExecutionError

from saltern.tls import certificate
from saltern.tls import host as certificates
from tests.unit.tls.moments import NOW, after

ADDRESS = "10.0.0.1"


@pytest.fixture(scope="session")
def issued(authority):
    """A host's key and certificate."""
    return certificate.issue(authority, "db1", ADDRESS, NOW)


@pytest.fixture
def given(authority, issued):
    """What the pillar gives a host."""
    key, own = certificate.parted(issued)
    return {"authorities": [certificate.parted(authority)[1]], "certificate": own, "key": key, "alone": False}


@pytest.fixture
def judged():
    """``certificates.mistakes`` for the host db1 of staging."""
    row = {"environment": "staging", "address": ADDRESS, "roles": ["database"]}
    return lambda given, now=NOW: certificates.mistakes(given, row, "db1", now)


def test_a_host_that_is_alone_needs_none_and_others_do(judged, given):
    command = "expected what bin/issue-certificates staging writes: run it"
    assert judged({"authorities": [], "alone": True}) == []
    assert judged({"authorities": [], "alone": False}) == [
        f"certificates: missing, and several hosts of staging must know each other; {command}"
    ]
    assert judged(given) == []
    for word in ("certificate", "key"):
        less = {key: value for key, value in given.items() if key != word}
        assert judged(less | {"alone": True}) == [f"certificates.{word}: missing; {command}"]
    assert judged(given, after(days=400)) == [f"certificates.certificate: expired on 2027-01-02; {command}"]


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A function that sets the clock and returns what the package does on a host with a directory of its own."""
    monkeypatch.setattr(certificates, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(certificates, "OWN", str(tmp_path / "authority.pem"))
    me = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(certificates.pwd, "getpwnam", {"root": me, "postgres": me}.__getitem__)

    def set_to(now=NOW, address=ADDRESS, given=None, roles=("database",), sites=()):
        monkeypatch.setattr(certificate, "now", lambda: now)
        told = certificates.Host("db1", address, given or {"authorities": []})
        functions = ("authorities", "pair", "write_authorities", "write_pair")
        of_host = {name: functools.partial(getattr(certificates, name), told) for name in functions}
        return types.SimpleNamespace(
            **of_host,
            expiring=functools.partial(certificates.expiring, roles, sites),
            issued_here=functools.partial(certificates.issued_here, "db1"),
            own=certificates.own,
        )

    return set_to


@pytest.fixture
def made(host, tmp_path):
    """A host that has made what it needs."""
    one = host()
    one.write_authorities(str(tmp_path / "ca.pem"), one.authorities())
    one.write_pair(str(tmp_path / "postgres.pem"), one.pair(str(tmp_path / "postgres.pem")), "postgres")
    return tmp_path


def test_a_host_that_is_alone_makes_its_own_and_keeps_it(host, made):
    one, path = host(), str(made / "postgres.pem")
    assert one.authorities() == (made / "ca.pem").read_text()
    assert one.pair(path) == (made / "postgres.pem").read_text()
    assert "PRIVATE" not in (made / "ca.pem").read_text()
    modes = {file.name: file.stat().st_mode & 0o777 for file in made.iterdir()}
    assert modes == {"authority.pem": 0o600, "ca.pem": 0o644, "postgres.pem": 0o600}
    assert host(after(days=200)).pair(path) == (made / "postgres.pem").read_text()


CHANGES = {
    "a third of its life is left": ({"now": after(days=250)}, None),
    "another address": ({"address": "10.0.0.2"}, None),
    "it was damaged": ({}, "-----BEGIN CERTIFICATE-----\nAAAA\n"),
    "it was emptied": ({}, ""),
}


@pytest.mark.parametrize("options, text", CHANGES.values(), ids=CHANGES)
def test_a_host_that_is_alone_renews_by_itself(host, made, options, text):
    path = made / "postgres.pem"
    if text is not None:
        path.write_text(text)
    before, one = path.read_text(), host(**options)
    authorities = one.authorities()
    assert one.pair(str(path)) is None
    one.write_pair(str(path), None, "postgres")
    assert one.pair(str(path)) == path.read_text() != before
    # A connected client still trusts it.
    assert one.authorities() == authorities == (made / "ca.pem").read_text()


def test_an_authority_that_was_damaged_is_made_anew_and_issues(host, made):
    (made / "authority.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    one = host()
    assert one.authorities() is None
    assert one.pair(str(made / "postgres.pem")) is None
    one.write_authorities(str(made / "ca.pem"), None)
    assert one.authorities() == (made / "ca.pem").read_text()
    assert one.pair(str(made / "postgres.pem")) is None


def test_what_the_pillar_gives_comes_before_its_own(host, made, given):
    # The text as Salt's renderer returns it.
    one = host(given=given | {"key": given["key"].rstrip("\n")})
    assert one.authorities() == given["authorities"][0]
    assert one.pair(str(made / "postgres.pem")) == given["key"] + given["certificate"]


def test_a_service_without_a_user_is_told(host, made):
    with pytest.raises(CommandExecutionError, match="there is no user redis"):
        host().write_pair(str(made / "redis.pem"), None, "redis")
    assert not (made / "redis.pem").exists()


def test_a_certificate_that_was_forgotten_is_listed_with_its_day(host, made):
    path = str(made / "postgres.pem")
    assert host(after(days=250)).expiring() == {}
    assert host(after(days=300)).expiring() == {path: "2027-01-02"}
    # No service uses it any more.
    assert host(after(days=300), roles=["app"]).expiring() == {}
    (made / "sites").mkdir()
    (made / "sites/shop.pem").write_text((made / "postgres.pem").read_text())
    found = host(after(days=300), roles=["proxy"], sites=["shop", "faq"]).expiring()
    assert found == {str(made / "sites/shop.pem"): "2027-01-02"}
    assert host(after(days=3000)).expiring().keys() == {path, str(made / "ca.pem")}


def test_no_answer_holds_a_key(host, made, dunders, certificate_states):
    host()
    path = str(made / "postgres.pem")
    pillar = {"hosts": {"db1": {"address": ADDRESS}}, "certificates": {"authorities": []}}
    for test in (True, False):
        (made / "postgres.pem").write_text("another")
        dunders(certificate_states, pillar=pillar, opts={"test": test, "id": "db1"})
        state = certificate_states.present(path, "postgres")
        assert (state["result"], state["changes"]) == (
            None if test else True,
            {path: {"old": "another", "new": "written"}},
        )
        assert "BEGIN" not in json.dumps(state)
    assert certificate_states.present(path, "postgres")["changes"] == {}
    (made / "postgres.pem").chmod(0o644)
    assert certificate_states.present(path, "postgres")["changes"]
    assert (made / "postgres.pem").stat().st_mode & 0o777 == 0o600
    assert certificate_states.authorities(str(made / "ca.pem"))["changes"] == {}
    (made / "ca.pem").unlink()
    assert certificate_states.authorities(str(made / "ca.pem"))["changes"]


def test_the_hosts_own_authority_issues_for_any_domains_and_is_made_where_there_is_none(host):
    one = host()
    assert one.own() is None
    text = one.issued_here("shop.example.com" * 5, ["shop.example.com", "www.example.com"])
    key, own = certificate.parted(text)
    names = ["shop.example.com", "www.example.com"]
    assert certificate.amiss(key, own, [one.own()], names, NOW) == {}
    authority = one.own()
    one.issued_here("shop.example.com", names)
    assert one.own() == authority
