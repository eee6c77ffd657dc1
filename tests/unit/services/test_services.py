"""Services: each is found by its module and answers the questions of the rest of Saltern."""

import json
import re
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from saltern import services
from saltern.services.redis import OFFSETS, PORTS

KINDS = services.formulas()
POSTGRES, REDIS = KINDS["postgres"], KINDS["redis"]

PASSWORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=256)


@hypothesis_settings(deadline=None)
@given(secret=PASSWORDS)
def test_any_password_comes_back_from_its_url(secret):
    at = {"address": "127.0.0.1", "port": 5432}
    parts = urlsplit(POSTGRES.url({"postgres": "the_shop"} | at, "my-shop", secret))
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("postgres", "127.0.0.1", 5432, "/the_shop")
    assert (parts.username, unquote(parts.password)) == (POSTGRES.login("my-shop", secret), secret)
    assert parts.query == "sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem"
    parts = urlsplit(REDIS.url({"redis": "shop"} | at, "my-shop", secret))
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("rediss", "127.0.0.1", 5432, "/0")
    assert (parts.username, unquote(parts.password)) == (REDIS.login("my-shop", secret), secret)
    assert parts.query == "ssl_ca_certs=/etc/ssl/saltern/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true"


def test_a_service_is_a_module_of_the_package_and_no_list(monkeypatch, tmp_path):
    (tmp_path / "post.py").write_text(
        "from saltern.services.url import Url\n\n\nclass Post(Url):\n    kind = 'post'\n    schema = {'post': {}}\n"
    )
    monkeypatch.setattr(services, "__path__", [*services.__path__, str(tmp_path)])
    found = services.listed.__wrapped__()
    assert found.keys() == services.listed().keys() | {"post"}
    assert list(found) == sorted(found)


@pytest.mark.parametrize("service", KINDS.values(), ids=KINDS)
def test_each_resource_has_a_formula_a_role_and_a_schema(service, schemas, request):
    root = request.config.rootpath
    assert service.plural in schemas[service.kind]["properties"]
    assert f"- {service.kind}\n" in (root / f"salt/roles/{service.role}.sls").read_text()
    assert next(iter(service.schema)) == service.kind
    (pattern,) = schemas[service.kind]["properties"][service.plural]["patternProperties"]
    assert service.schema[service.kind]["pattern"] == pattern
    # What relies on the service starts after this unit. No app may have the name of one of the service's users.
    assert service.relied_on.endswith(".service") or not service.has_certificate
    (names,) = schemas["app"]["patternProperties"]
    assert [user for user in service.users if re.search(names, user)] == []
    assert json.loads(json.dumps(service.schema)) == service.schema


def test_what_a_host_provides_follows_from_its_roles():
    assert services.on(["app", "proxy"]) == []
    assert services.on(["cache", "app"]) == [REDIS]
    assert services.on(["database", "cache"]) == [POSTGRES, REDIS]


@pytest.mark.parametrize(
    "target, expected",
    [
        ({"postgres": "shop"}, "postgres"),
        ({"service": "faq", "version": "v1"}, "service"),
        ({"url": "https://x"}, None),
        ({"redis": "shop", "url": "https://x"}, None),
        ({"redis": "shop", "postgres": "shop"}, None),
        ({}, None),
    ],
)
def test_an_attachment_is_of_one_service_or_somebody_elses(target, expected):
    service = services.named(target)
    assert (service and service.kind) == expected


def test_the_offsets_of_instances_are_those_of_the_setting_and_the_ports_that_are_bounded(schemas):
    (instance,) = schemas["redis"]["properties"]["instances"]["patternProperties"].values()
    offset = instance["properties"]["offset"]
    assert (offset["minimum"], offset["maximum"]) == (OFFSETS[0], OFFSETS[-1])
    assert {port % 100 for port in PORTS} == set(OFFSETS)
