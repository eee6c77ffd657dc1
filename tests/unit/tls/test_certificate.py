"""Certificates: what is issued, and what makes one unusable."""

import ssl

import pytest

from saltern.tls import certificate
from tests.unit.tls.moments import NOW, after

ADDRESS = "10.0.0.1"


@pytest.fixture(scope="session")
def other():
    """Another authority of the same name."""
    return certificate.new_authority("dev", NOW)


@pytest.fixture(scope="session")
def issued(authority):
    """A host's key and certificate."""
    return certificate.issue(authority, "db1", ADDRESS, NOW)


@pytest.fixture
def amiss(authority, issued):
    """``certificate.amiss`` of the issued certificate, with the given arguments replaced."""

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
    assert amiss(now=after(days=364)) == {}


def test_what_is_wrong_is_told_by_its_setting(amiss, authority, other, issued):
    assert amiss(now=after(days=366)) == {"certificate": "expired on 2027-01-02"}
    assert amiss(names=["db1", "10.0.0.2"]) == {"certificate": "is not for 10.0.0.2"}
    assert amiss(authorities=[other]) == {"certificate": "was issued by none of the authorities"}
    assert amiss(key=certificate.parted(other)[0]) == {"key": "is that of another certificate"}
    assert amiss(key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n") == {"key": "cannot be read"}
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert amiss(certificate=broken) == {"certificate": "cannot be read"}
    assert amiss(authorities=[authority, broken]) == {"authorities[1]": "cannot be read"}
    # It belongs to no host, since it has no names.
    assert amiss(text=other)["certificate"] == "cannot be read"


def test_a_certificate_from_before_etcd_is_told_where_etcd_must_know_who_asks(authority):
    names, trusted = certificate.names_of("db1", ADDRESS), [certificate.parted(authority)[1]]
    before = certificate.parted(certificate.issue_for(authority, "db1", names, NOW))
    today = certificate.parted(certificate.issue(authority, "db1", ADDRESS, NOW))
    told = {"certificate": "does not say that its host may ask etcd (clientAuth)"}
    for (key, own), is_client, expected in ((before, False, {}), (before, True, told), (today, True, {})):
        assert certificate.amiss(key, own, trusted, names, NOW, is_client) == expected


def test_an_authority_that_has_expired_is_told():
    short = certificate.new_authority("dev", NOW, days=10)
    key, own = certificate.parted(certificate.issue(short, "db1", ADDRESS, NOW))
    # A certificate does not outlive its authority.
    assert certificate.until(own) == after(days=10)
    names = certificate.names_of("db1", ADDRESS)
    assert certificate.amiss(key, own, [certificate.parted(short)[1]], names, after(days=11)).keys() == {
        "authorities",
        "certificate",
    }


def test_the_part_of_a_certificates_life_that_is_left_is_known(issued):
    own = certificate.parted(issued)[1]
    assert certificate.left(own, NOW) == pytest.approx(1, abs=0.001)
    assert certificate.left(own, after(days=365 * 2 / 3)) == pytest.approx(1 / 3, abs=0.001)
    assert certificate.left(own, after(days=366)) < 0


def test_a_strict_client_accepts_the_certificate(authority, issued, tmp_path):
    """Python's TLS in memory accepts the host's address and name, and no other host's."""
    path = tmp_path / "pair.pem"
    path.write_text(issued)
    assert handshake(path, certificate.parted(authority)[1], "10.0.0.1") is None
    assert handshake(path, certificate.parted(authority)[1], "127.0.0.1") is None
    assert handshake(path, certificate.parted(authority)[1], "::1") is None
    assert handshake(path, certificate.parted(authority)[1], "db1") is None
    assert "mismatch" in handshake(path, certificate.parted(authority)[1], "10.0.0.2")
    assert "verify failed" in handshake(path, certificate.parted(certificate.new_authority("x", NOW))[1], "db1")


def handshake(path, authorities, name):
    """Return why the TLS handshake fails, or ``None``."""
    context = ssl.create_default_context(cadata=authorities)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # The test's clock differs from this machine's.
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
