"""The certificates of nginx's sites: what is refused, what serves, what follows from what is in one."""

import datetime

import pytest

from saltern.tls import certificate
from saltern.tls import host as certificates

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
DOMAINS = ["shop.example.com", "www.example.com"]


def after(days):
    return NOW + datetime.timedelta(days=days)


@pytest.fixture(scope="session")
def authority():
    return certificate.new_authority("dev", NOW)


@pytest.fixture(scope="session")
def issued(authority):
    """Key and certificate of an app."""
    return certificate.issue_for(authority, "shop", DOMAINS, NOW)


@pytest.fixture(scope="session")
def parts(issued):
    return certificate.parted(issued)


def test_what_serves_is_not_refused(site_certificate, authority, parts):
    key, own = parts
    assert site_certificate.amiss(key, own, DOMAINS, NOW) == {}
    assert site_certificate.amiss(key, own + certificate.parted(authority)[1], DOMAINS[:1], after(364)) == {}


EXPECTED = {
    "expired": ({"now": after(365)}, {"certificate": "expired on 2027-01-02; expected one that is valid"}),
    "not yet valid": (
        {"now": after(-1)},
        {"certificate": "is valid from 2026-01-02 on; expected one that is valid now"},
    ),
    "another domain": (
        {"domains": [*DOMAINS, "a.example.com", "b.example.com"]},
        {"certificate": "is not for a.example.com, b.example.com; expected one for all domains of the app"},
    ),
    "no certificate": (
        {"certificate": "x"},
        {"certificate": "cannot be read; expected certificates in PEM, its own first"},
    ),
    "half a certificate": (
        {"certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
        {"certificate": "cannot be read; expected certificates in PEM, its own first"},
    ),
    "no key": (
        {"key": "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"},
        {"key": "cannot be read; expected a private key in PEM, without a passphrase"},
    ),
}


@pytest.mark.parametrize("given, expected", EXPECTED.values(), ids=EXPECTED)
def test_what_cannot_serve_is_told(site_certificate, parts, given, expected):
    whole = {"key": parts[0], "certificate": parts[1], "domains": DOMAINS, "now": NOW} | given
    assert site_certificate.amiss(**whole) == expected


def test_the_key_of_another_is_told(site_certificate, authority, parts):
    other, _ = certificate.parted(certificate.issue_for(authority, "shop", DOMAINS, NOW))
    assert site_certificate.amiss(other, parts[1], DOMAINS, NOW) == {
        "key": "is that of another certificate; expected the one of app.<name>.site.certificate's first"
    }


def test_what_openssl_refuses_is_told(site_certificate, authority, monkeypatch):
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    weak = rsa.generate_private_key(65537, 1024)
    monkeypatch.setattr(ec, "generate_private_key", lambda curve: weak)
    key, own = certificate.parted(certificate.issue_for(authority, "shop", DOMAINS, NOW))
    assert site_certificate.amiss(key, own, DOMAINS, NOW) == {
        "certificate": "is refused by OpenSSL (ee_key_too_small); expected another"
    }


COVERED = [
    ("shop.example.com", ["shop.example.com"], True),
    ("shop.example.com", ["Shop.Example.com"], True),
    ("shop.example.com", ["*.example.com"], True),
    ("a.shop.example.com", ["*.example.com"], False),
    ("example.com", ["*.example.com"], False),
    ("localhost", ["*."], False),
    ("shop.example.com", [], False),
]


@pytest.mark.parametrize("domain, names, expected", COVERED)
def test_a_name_covers_a_domain(site_certificate, domain, names, expected):
    assert site_certificate.is_covered(domain, names) is expected


HSTS = {"max_age": 86400, "include_subdomains": False, "preload": False}
HEADERS = [
    (True, {}, "max-age=86400"),
    (True, {"max_age": 0}, ""),
    (False, {}, ""),
    (
        True,
        {"max_age": 31536000, "include_subdomains": True, "preload": True},
        "max-age=31536000; includeSubDomains; preload",
    ),
]


@pytest.mark.parametrize("redirect, hsts, expected", HEADERS)
def test_browsers_are_told_to_keep_to_https_only_where_http_leads_there(site_certificate, redirect, hsts, expected):
    assert site_certificate.hsts({"redirect": redirect, "hsts": HSTS | hsts}) == expected


def settings(site=None, **tls):
    """Return settings of a host with one app."""
    whole = {"source": "authority", "hsts": HSTS, "acme": {"agree_terms": False}} | tls
    return {"nginx": {"tls": whole}, "app": {"shop": {"domains": DOMAINS, "site": site or {}}}}


TERMS = "nginx.tls.acme.agree_terms: expected True, once you have read the authority's terms of service"
PRELOAD = "nginx.tls.hsts.preload: expected include_subdomains beside it, and a max_age of 31536000 or more"
MISTAKES = {
    "nothing": ({}, []),
    "terms that nobody agreed to": ({"source": "acme"}, [TERMS]),
    "terms that somebody agreed to": ({"source": "acme", "acme": {"agree_terms": True}}, []),
    "preload for a day": ({"hsts": HSTS | {"preload": True, "include_subdomains": True}}, [PRELOAD]),
    "a key alone": ({"site": {"key": "x"}}, ["app.shop.site.certificate: missing; expected it beside key"]),
    "a certificate alone": (
        {"site": {"certificate": "x"}},
        ["app.shop.site.key: missing; expected it beside certificate"],
    ),
    "what cannot be read": (
        {"site": {"certificate": "canary", "key": "canary"}},
        ["app.shop.site.certificate: cannot be read; expected certificates in PEM, its own first"],
    ),
}


@pytest.mark.parametrize("given, expected", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_by_path(site_certificate, given, expected):
    assert site_certificate.judged(settings(**given), NOW) == expected


def test_they_are_told_on_the_hosts_that_serve_it_alone(site_certificate):
    given = settings(source="acme")
    hosts = {"one": {"roles": ["app", "proxy"]}, "two": {"roles": ["database", "app"]}}
    assert site_certificate.mistakes(given, hosts, "one") == [TERMS]
    assert site_certificate.mistakes(given, hosts, "two") == []


@pytest.fixture
def host(site_certificate, dunders, monkeypatch, tmp_path):
    """A function that gives the module a host with a pillar; its own authority lies in a directory of the test."""
    monkeypatch.setattr(site_certificate, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(certificates, "OWN", str(tmp_path / "authority"))
    monkeypatch.setattr(
        certificates, "_replace", lambda path, text, user, mode: (tmp_path / "authority").write_text(text)
    )

    def at(now=NOW, source="authority", site=None, acme=None, domains=DOMAINS):
        monkeypatch.setattr(site_certificate, "_now", lambda: now)
        monkeypatch.setattr(certificate, "now", lambda: now)
        salt = {"acme.pair": lambda app: acme}
        app = {"shop": {"domains": domains, "site": site or {}}}
        nginx = {"sites": {"shop": {}}, "tls": {"source": source}}
        dunders(site_certificate, salt=salt, opts={"id": "one"}, pillar={"app": app, "nginx": nginx})
        return site_certificate

    return at


def test_the_hosts_own_authority_issues_and_renews(host):
    module = host()
    assert module.pair("shop") is None
    module.write("shop", None)
    first = module.pair("shop")
    assert module.names_of(module._certificates(first)[0]) == DOMAINS
    assert host(after(240)).pair("shop") == first
    # A third of its life is left, or the domains are others, or the authority is another one.
    assert host(after(245)).pair("shop") is None
    assert host(domains=DOMAINS[:1]).pair("shop") is None
    host(after(2500)).write("shop", None)
    assert host(after(2500)).pair("shop") != first


def test_what_the_pillar_gives_is_written_as_it_is(host, parts):
    module = host(site={"key": parts[0], "certificate": parts[1].rstrip("\n")})
    assert module.source("shop") == "pillar"
    assert module.pair("shop") == parts[0] + parts[1]


def test_until_there_is_one_by_acme_what_is_there_serves_or_a_placeholder(host, issued, tmp_path):
    module = host(source="acme")
    assert module.by_acme() == ["shop"]
    assert module.pair("shop") is None
    module.write("shop", None)
    there = module.pair("shop")
    assert module.is_placeholder(module._certificates(there)[0])
    assert (tmp_path / "shop.pem").stat().st_mode & 0o777 == 0o600
    assert host(source="acme", acme=issued).pair("shop") == issued
    (tmp_path / "shop.pem").write_text(issued)
    assert host(source="acme").pair("shop") == issued
    (tmp_path / "shop.pem").write_text(issued[:300])
    assert host(source="acme").pair("shop") is None


def test_a_file_of_no_site_is_unused(host, tmp_path):
    module = host()
    for name in ("shop.pem", "faq.pem", "faq.pem.new"):
        (tmp_path / name).write_text("")
    unused = module.unused()
    assert unused == [str(tmp_path / "faq.pem"), str(tmp_path / "faq.pem.new")]
    module.retired(unused)
    assert module.unused() == []


BASE = "ssl_certificate /p;\nssl_certificate_key /p;\n"
STRICT = "add_header Strict-Transport-Security $hsts always;\n"


def test_what_follows_from_a_certificate(site_certificate, issued):
    assert site_certificate.snippet("/p", issued) == BASE + STRICT
    assert site_certificate.snippet("/p", None) == BASE + STRICT
    assert site_certificate.snippet("/p", "broken") == BASE + STRICT
    # Nobody is told to keep to what nobody believes.
    assert site_certificate.snippet("/p", site_certificate.placeholder(DOMAINS, NOW)) == BASE


def test_only_one_that_can_be_asked_about_is_stapled(site_certificate, authority, monkeypatch):
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
    assert site_certificate.snippet("/p", text) == BASE + "ssl_stapling on;\n" + STRICT
