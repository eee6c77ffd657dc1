"""Certificates: what is issued, what is wrong with one, and what a host that is alone does by itself."""

import datetime
import functools
import json
import os
import pwd
import ssl
import types

import pytest
from salt.exceptions import CommandExecutionError

from saltern.tls import certificate

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
ADDRESS = "10.0.0.1"


def after(days):
    return NOW + datetime.timedelta(days=days)


@pytest.fixture(scope="session")
def authority():
    """An authority, key and certificate."""
    return certificate.new_authority("dev", NOW)


@pytest.fixture(scope="session")
def other():
    """Another one of the same name."""
    return certificate.new_authority("dev", NOW)


@pytest.fixture(scope="session")
def issued(authority):
    """A host's key and certificate."""
    return certificate.issue(authority, "db1", ADDRESS, NOW)


@pytest.fixture
def amiss(authority, issued):
    """``certificate.amiss`` of what was issued, with what is given in the place of its own."""

    def amiss(text=issued, authorities=(authority,), names=None, now=NOW, **parts):
        key, own = certificate.parted(text)
        names = names or certificate.names_of("db1", ADDRESS)
        trusted = [certificate.parted(one)[1] if "BEGIN" in one else one for one in authorities]
        return certificate.amiss(parts.get("key", key), parts.get("certificate", own), trusted, names, now)

    return amiss


def test_what_was_issued_serves(amiss, other, authority):
    assert amiss() == {}
    assert amiss(key=None) == {}
    assert amiss(authorities=[other, authority]) == {}
    assert amiss(now=after(364)) == {}


def test_what_is_wrong_is_told_by_its_setting(amiss, authority, other, issued):
    assert amiss(now=after(366)) == {"certificate": "expired on 2027-01-02"}
    assert amiss(names=["db1", "10.0.0.2"]) == {"certificate": "is not for 10.0.0.2"}
    assert amiss(authorities=[other]) == {"certificate": "was issued by none of the authorities"}
    assert amiss(key=certificate.parted(other)[0]) == {"key": "is that of another certificate"}
    assert amiss(key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n") == {"key": "cannot be read"}
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert amiss(certificate=broken) == {"certificate": "cannot be read"}
    assert amiss(authorities=[authority, broken]) == {"authorities[1]": "cannot be read"}
    # No host's: it has no names.
    assert amiss(text=other)["certificate"] == "cannot be read"


def test_an_authority_that_has_expired_is_told():
    short = certificate.new_authority("dev", NOW, days=10)
    key, own = certificate.parted(certificate.issue(short, "db1", ADDRESS, NOW))
    # It does not outlive its authority.
    assert certificate.until(own) == after(10)
    names = certificate.names_of("db1", ADDRESS)
    assert certificate.amiss(key, own, [certificate.parted(short)[1]], names, after(11)).keys() == {
        "authorities",
        "certificate",
    }


def test_a_life_has_parts(issued):
    own = certificate.parted(issued)[1]
    assert certificate.left(own, NOW) == pytest.approx(1, abs=0.001)
    assert certificate.left(own, after(365 * 2 / 3)) == pytest.approx(1 / 3, abs=0.001)
    assert certificate.left(own, after(366)) < 0


def test_a_client_that_is_strict_believes_it(authority, issued, tmp_path):
    """Python's own TLS, in memory: by address, by name, and not by another one's."""
    path = tmp_path / "pair.pem"
    path.write_text(issued)
    assert handshake(path, certificate.parted(authority)[1], "10.0.0.1") is None
    assert handshake(path, certificate.parted(authority)[1], "127.0.0.1") is None
    assert handshake(path, certificate.parted(authority)[1], "::1") is None
    assert handshake(path, certificate.parted(authority)[1], "db1") is None
    assert "mismatch" in handshake(path, certificate.parted(authority)[1], "10.0.0.2")
    assert "verify failed" in handshake(path, certificate.parted(certificate.new_authority("x", NOW))[1], "db1")


def handshake(path, authorities, name):
    """Return why a client and a server do not come together, or ``None``."""
    context = ssl.create_default_context(cadata=authorities)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # The clock of the test is not the machine's.
    context.verify_flags |= 0x200000
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [context.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
    return None


@pytest.fixture
def given(authority, issued):
    """What the pillar gives a host."""
    key, own = certificate.parted(issued)
    return {"authorities": [certificate.parted(authority)[1]], "certificate": own, "key": key, "alone": False}


@pytest.fixture
def judged():
    """``certificate.mistakes`` for the host db1 of staging."""
    row = {"environment": "staging", "address": ADDRESS, "roles": ["database"]}
    return lambda given, now=NOW: certificate.mistakes(given, row, "db1", now)


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
    assert judged(given, after(400)) == [f"certificates.certificate: expired on 2027-01-02; {command}"]


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A function that sets the clock and returns what the package does on a host with a directory of its own."""
    monkeypatch.setattr(certificate, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(certificate, "OWN", str(tmp_path / "authority.pem"))
    me = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(certificate.pwd, "getpwnam", {"root": me, "postgres": me}.__getitem__)

    def set_to(now=NOW, address=ADDRESS, given=None, roles=("database",), sites=()):
        monkeypatch.setattr(certificate, "_now", lambda: now)
        told = certificate.Host("db1", address, given or {"authorities": []})
        functions = ("authorities", "pair", "write_authorities", "write_pair")
        of_host = {name: functools.partial(getattr(certificate, name), told) for name in functions}
        return types.SimpleNamespace(
            **of_host,
            expiring=functools.partial(certificate.expiring, roles, sites),
            issued_here=functools.partial(certificate.issued_here, "db1"),
            own=certificate.own,
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
    assert host(after(200)).pair(path) == (made / "postgres.pem").read_text()


CHANGES = {
    "a third of its life is left": ({"now": after(250)}, None),
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
    # Whoever is connected goes on trusting it.
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
    # As Salt's renderer hands it on.
    one = host(given=given | {"key": given["key"].rstrip("\n")})
    assert one.authorities() == given["authorities"][0]
    assert one.pair(str(made / "postgres.pem")) == given["key"] + given["certificate"]


def test_a_service_without_a_user_is_told(host, made):
    with pytest.raises(CommandExecutionError, match="there is no user redis"):
        host().write_pair(str(made / "redis.pem"), None, "redis")
    assert not (made / "redis.pem").exists()


def test_a_certificate_that_was_forgotten_is_listed_with_its_day(host, made):
    path = str(made / "postgres.pem")
    assert host(after(250)).expiring() == {}
    assert host(after(300)).expiring() == {path: "2027-01-02"}
    # Nobody serves it any more.
    assert host(after(300), roles=["app"]).expiring() == {}
    (made / "sites").mkdir()
    (made / "sites/shop.pem").write_text((made / "postgres.pem").read_text())
    found = host(after(300), roles=["proxy"], sites=["shop", "faq"]).expiring()
    assert found == {str(made / "sites/shop.pem"): "2027-01-02"}
    assert host(after(3000)).expiring().keys() == {path, str(made / "ca.pem")}


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


def test_a_bundle_that_could_not_be_made_is_made_by_the_next_run(certificate_states, dunders, tmp_path):
    directory, bundle, retcodes = tmp_path / "declared", tmp_path / "certs/bundle.crt", [1, 0, 0]
    for path, text in ((directory / "own.crt", "own\n"), (bundle, "public\n")):
        path.parent.mkdir()
        path.write_text(text)

    def update(command, python_shell):
        retcode = retcodes.pop(0)
        if not retcode:
            bundle.write_text("".join(["public\n", *(path.read_text() for path in directory.glob("*.crt"))]))
        return {"retcode": retcode, "stderr": "no space", "stdout": ""}

    dunders(certificate_states, salt={"cmd.run_all": update}, opts={"test": False})

    def ask(function):
        return getattr(certificate_states, function)(str(bundle), str(directory))

    failed = ask("bundled")
    assert (failed["result"], failed["skip_watch"], failed["comment"]) == (
        False,
        True,
        "update-ca-certificates: no space",
    )
    made = ask("bundled")
    assert (made["result"], made["changes"] != {}, bundle.read_text()) == (True, True, "public\nown\n")
    assert ask("bundled")["changes"] == ask("mod_watch")["changes"] == {}
    # One that is gone leaves a link, as update-ca-certificates does.
    (bundle.parent / "own.pem").symlink_to(directory / "own.crt")
    (directory / "own.crt").unlink()
    assert ask("bundled")["changes"] != {}
    assert (bundle.read_text(), sorted(path.name for path in bundle.parent.iterdir())) == ("public\n", ["bundle.crt"])
    assert ask("bundled")["changes"] == {}
    dunders(certificate_states, opts={"test": True})
    assert (ask("bundled")["result"], ask("mod_watch")["result"]) == (True, None)
