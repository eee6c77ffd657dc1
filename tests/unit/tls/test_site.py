"""The certificates of nginx's sites: which one is served, and what its contents decide."""

import os
import types

import pytest

from saltern.host import Host
from saltern.tls import certbot, certificate, site
from saltern.tls import host as certificates
from tests.unit.tls.moments import DOMAINS, NOW, after


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A function that sets the clock and returns the package's view of a host, whose files lie in a directory."""
    monkeypatch.setattr(site, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(certificates, "OWN", str(tmp_path / "authority"))
    monkeypatch.setattr(
        certificates, "_replace", lambda path, text, user, mode: (tmp_path / "authority").write_text(text)
    )

    def at(now=NOW, source="authority", given=None, acme=None, domains=DOMAINS):
        monkeypatch.setattr(certificate, "now", lambda: now)
        monkeypatch.setattr(certbot, "pair", lambda app: acme)
        app = {"shop": {"domains": domains, "site": {"redirects": {"domains": []}} | (given or {})}}
        pillar = {"app": app, "nginx": {"sites": {"shop": {}}, "tls": {"source": source}}}
        told = Host.of({}, pillar, {"id": "one"})
        return types.SimpleNamespace(
            pair=lambda: site.pair(pillar, "shop"), write=lambda: site.write(told, "shop", None), pillar=pillar
        )

    return at


def test_the_hosts_own_authority_issues_and_renews(host):
    one = host()
    assert one.pair() is None
    one.write()
    first = one.pair()
    assert certificate.domains_of(certificate.read(first)[0]) == DOMAINS
    assert host(after(days=240)).pair() == first
    # A third of its life is left, its domains have changed, or the authority is another one.
    assert host(after(days=245)).pair() is None
    assert host(domains=DOMAINS[:1]).pair() is None
    host(after(days=2500)).write()
    assert host(after(days=2500)).pair() != first


def test_what_the_pillar_gives_is_written_as_it_is(host, for_shop):
    key, own = certificate.parted(for_shop)
    one = host(given={"key": key, "certificate": own.rstrip("\n")})
    assert site.source(one.pillar, "shop") == "pillar"
    assert one.pair() == for_shop


def test_the_certificate_of_a_gone_app_serves_its_domains_until_there_is_another(host, for_shop, tmp_path):
    one = host(source="acme")
    (tmp_path / "gone.pem").write_text(for_shop)
    assert one.pair() == for_shop
    assert host(source="acme", domains=[*DOMAINS, "other.example.com"]).pair() is None
    assert host(source="acme", acme="of its own").pair() == "of its own"
    (tmp_path / "gone.pem").write_text(site.placeholder(DOMAINS, NOW))
    assert host(source="acme").pair() is None


def test_before_the_first_acme_certificate_an_existing_one_or_a_placeholder_serves(host, for_shop, tmp_path):
    one = host(source="acme")
    assert site.by_acme(one.pillar) == ["shop"]
    assert one.pair() is None
    one.write()
    assert site.is_placeholder(certificate.read(one.pair())[0])
    assert (tmp_path / "shop.pem").stat().st_mode & 0o777 == 0o600
    assert host(source="acme", acme=for_shop).pair() == for_shop
    (tmp_path / "shop.pem").write_text(for_shop)
    assert host(source="acme").pair() == for_shop
    (tmp_path / "shop.pem").write_text(for_shop[:300])
    assert host(source="acme").pair() is None


def test_a_file_of_no_site_is_unused(host, tmp_path):
    pillar = host().pillar
    for name in ("shop.pem", "faq.pem", "faq.pem.new"):
        (tmp_path / name).write_text("")
    unused = site.unused(pillar)
    assert unused == [str(tmp_path / "faq.pem"), str(tmp_path / "faq.pem.new")]
    for path in unused:
        os.unlink(path)
    assert site.unused(pillar) == []


BASE = "ssl_certificate /p;\nssl_certificate_key /p;\n"
STRICT = "add_header Strict-Transport-Security $hsts always;\n"


def test_what_follows_from_a_certificate(for_shop):
    assert site.snippet("/p", for_shop) == BASE + STRICT
    assert site.snippet("/p", None) == BASE + STRICT
    assert site.snippet("/p", "broken") == BASE + STRICT
    # A browser that knows HSTS for the domain would not let its user past a placeholder.
    assert site.snippet("/p", site.placeholder(DOMAINS, NOW)) == BASE


def test_only_a_certificate_with_an_ocsp_responder_is_stapled(authority, monkeypatch):
    from cryptography import x509

    where = x509.UniformResourceIdentifier("http://ocsp.example.com")
    ocsp = x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, where)
    builder = certificate._builder
    monkeypatch.setattr(
        certificate,
        "_builder",
        lambda *arguments: builder(*arguments).add_extension(x509.AuthorityInformationAccess([ocsp]), critical=False),
    )
    text = certificate.issue_for(authority, "shop", DOMAINS, NOW)
    assert site.snippet("/p", text) == BASE + "ssl_stapling on;\n" + STRICT
