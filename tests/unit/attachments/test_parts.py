"""Attachments in parts: the variables that an app gets in place of a URL, and the URL that they make up."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from saltern import services
from saltern.attachments import parts

KINDS = services.formulas()
AT = {"address": "10.0.0.2", "port": 5432}
PASSWORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=256)

FORMS = {
    "libpq's own": (
        "PG",
        {"postgres": "the_shop"},
        "postgres://shop_0a0a0a:p%2Fw@10.0.0.2:5432/the_shop?sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem",
        {
            "PGHOST": "10.0.0.2",
            "PGPORT": "5432",
            "PGUSER": "shop_0a0a0a",
            "PGPASSWORD": "p/w",
            "PGDATABASE": "the_shop",
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": "/etc/ssl/saltern/ca.pem",
        },
    ),
    "a database by another name": (
        "DB",
        {"postgres": "shop"},
        "postgres://shop:pw@[::1]/shop?sslmode=require",
        {"DB_HOST": "::1", "DB_USER": "shop", "DB_PASSWORD": "pw", "DB_DATABASE": "shop", "DB_SSLMODE": "require"},
    ),
    "an instance": (
        "CACHE",
        {"redis": "shop"},
        "rediss://shop_0a0a0a:pw@127.0.0.1:8099/0?ssl_ca_certs=/a.pem&ssl_cert_reqs=required&ssl_check_hostname=true",
        {
            "CACHE_HOST": "127.0.0.1",
            "CACHE_PORT": "8099",
            "CACHE_USER": "shop_0a0a0a",
            "CACHE_PASSWORD": "pw",
            "CACHE_DATABASE": "0",
            "CACHE_SSL_CA_CERTS": "/a.pem",
            "CACHE_SSL_CERT_REQS": "required",
            "CACHE_SSL_CHECK_HOSTNAME": "true",
        },
    ),
    "an app": (
        "FAQ",
        {"service": "faq", "version": "v1"},
        "http://127.0.0.1:8200/api/v1",
        {"FAQ_HOST": "127.0.0.1", "FAQ_PORT": "8200", "FAQ_PATH": "/api/v1"},
    ),
}


@pytest.mark.parametrize("variable, target, url, expected", FORMS.values(), ids=FORMS)
def test_a_url_is_given_in_parts_and_told_from_them(variable, target, url, expected):
    target = target | {"as": "parts"}
    assert parts.variables(variable, target, url) == expected
    assert parts.read(variable, target, expected | {"OTHER": "x"}) == url
    assert set(expected) <= set(parts.names(variable, target))
    texts = {name: value.encode() for name, value in expected.items()}
    assert (variable, url) in list(parts.urls(texts, {variable: target}))


@pytest.mark.parametrize("form", [{}, {"as": "url"}])
def test_without_a_word_it_is_one_variable_with_the_url(form):
    target = {"postgres": "shop"} | form
    assert parts.variables("DB", target, "postgres://x") == {"DB": "postgres://x"}
    assert (parts.names("DB", target), parts.read("DB", target, {"DB": "postgres://x"})) == (["DB"], "postgres://x")
    assert parts.recorded(target) == {}
    assert list(parts.urls({"DB": b"x\xff"}, {"DB": target})) == [("DB", "x\ufffd")]


@hypothesis_settings(deadline=None)
@given(secret=PASSWORDS)
def test_any_password_comes_back_from_parts(secret):
    for kind, service in ((kind, service) for kind, service in KINDS.items() if service.has_password):
        target = {kind: "shop", "as": "parts"}
        url = service.url(target | AT, "my-shop", secret)
        found = parts.variables("X", target, url)
        assert found["X_PASSWORD"] == secret
        assert set(found) == set(parts.names("X", target))
        assert parts.read("X", target, found) == url


def test_a_url_in_the_place_of_a_service_is_given_in_the_parts_that_it_has():
    url = "postgres://u:pw@db.example.com/shop?sslmode=require&application_name=x"
    target = {"postgres": "shop", "as": "parts", "url": url}
    found = ["DB_HOST", "DB_USER", "DB_PASSWORD", "DB_DATABASE", "DB_SSLMODE"]
    assert parts.names("DB", target) == list(parts.variables("DB", target, url)) == found


def test_a_missing_variable_is_no_url():
    target = {"postgres": "shop", "as": "parts"}
    assert parts.read("PG", target, {"PGPORT": "5432"}) == ""
    assert parts.read("X", {"postgres": "shop"}, {}) == ""
    assert list(parts.urls({}, {"PG": target, "K": {"kafka": "jobs", "as": "parts"}})) == []
