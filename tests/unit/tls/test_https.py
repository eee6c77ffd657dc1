"""HTTPS as the pillar declares it: what is refused, and what browsers are told to do."""

import pytest

from saltern.tls import certificate, https
from tests.unit.tls.moments import DOMAINS, NOW, after


@pytest.fixture(scope="session")
def parts(for_shop):
    return certificate.parted(for_shop)


def test_what_serves_is_not_refused(authority, parts):
    key, own = parts
    assert https.amiss(key, own, DOMAINS, NOW) == {}
    assert https.amiss(key, own + certificate.parted(authority)[1], DOMAINS[:1], after(days=364)) == {}


EXPECTED = {
    "expired": ({"now": after(days=365)}, {"certificate": "expired on 2027-01-02; expected one that is valid"}),
    "not yet valid": (
        {"now": after(days=-1)},
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
def test_what_cannot_serve_is_told(parts, given, expected):
    whole = {"key": parts[0], "certificate": parts[1], "domains": DOMAINS, "now": NOW} | given
    assert https.amiss(*whole.values()) == expected


def test_the_key_of_another_is_told(authority, parts):
    other, _ = certificate.parted(certificate.issue_for(authority, "shop", DOMAINS, NOW))
    assert https.amiss(other, parts[1], DOMAINS, NOW) == {
        "key": "is that of another certificate; expected the one of app.<name>.site.certificate's first"
    }


def test_what_openssl_refuses_is_told(authority, monkeypatch):
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    weak = rsa.generate_private_key(65537, 1024)
    monkeypatch.setattr(ec, "generate_private_key", lambda curve: weak)
    key, own = certificate.parted(certificate.issue_for(authority, "shop", DOMAINS, NOW))
    assert https.amiss(key, own, DOMAINS, NOW) == {
        "certificate": "is refused by OpenSSL (ee_key_too_small); expected another"
    }


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
def test_browsers_are_told_to_keep_to_https_only_where_http_leads_there(redirect, hsts, expected):
    assert https.hsts({"redirect": redirect, "hsts": HSTS | hsts}) == expected


def settings(site=None, **tls):
    """Return settings of a host with one app."""
    whole = {"source": "authority", "hsts": HSTS, "acme": {"agree_terms": False}} | tls
    return {
        "nginx": {"tls": whole},
        "app": {"shop": {"domains": DOMAINS, "site": {"redirects": {"domains": []}} | (site or {})}},
    }


def test_acme_has_no_certificate_for_a_domain_that_stands_for_many():
    names = ["shop.example.com", "*.shop.example.com"]
    declared = settings(source="acme", acme={"agree_terms": True})
    declared["app"]["shop"]["domains"] = names
    assert https.judged(declared, NOW) == [
        "app.shop.domains[1]: ACME needs a record of DNS for each renewal (DNS-01), which Saltern "
        "does not write; expected app.shop.site.certificate and key, or domains in full"
    ]
    authority = certificate.new_authority("dev", NOW)
    key, own = certificate.parted(certificate.issue_for(authority, names[0], names, NOW))
    declared["app"]["shop"]["site"] |= {"certificate": own, "key": key}
    assert https.judged(declared, NOW) == []
    declared["app"]["shop"]["domains"] = [*names, "*.example.com"]
    assert https.judged(declared, NOW) == [
        "app.shop.site.certificate: is not for *.example.com; expected one for all domains of the app"
    ]


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
def test_mistakes_are_told_by_path(given, expected):
    assert https.judged(settings(**given), NOW) == expected


def test_mistakes_of_https_are_told_only_on_proxies():
    given = settings(source="acme")
    hosts = {"one": {"roles": ["app", "proxy"]}, "two": {"roles": ["database", "app"]}}
    assert https.mistakes(given, hosts, "one") == [TERMS]
    assert https.mistakes(given, hosts, "two") == []
