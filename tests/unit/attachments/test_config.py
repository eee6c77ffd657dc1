"""An app's attachments on a host: the variables in its config, and the states that must succeed before its release."""

import dataclasses

import pytest

from saltern import services
from saltern.attachments import config

POSTGRES = services.formulas()["postgres"]


@pytest.mark.parametrize(
    "target, expected",
    [
        (
            {"service": "faq", "version": "v1", "address": "10.0.0.4", "port": 8200, "path": "/v1"},
            "http://10.0.0.4:8200/v1",
        ),
        ({"url": "https://faq.example.com/v1"}, "https://faq.example.com/v1"),
        ({"service": "faq", "version": "v1", "url": "https://faq.example.com"}, "https://faq.example.com"),
        ({"postgres": "shop", "url": "postgres://db.example.com/x"}, "postgres://db.example.com/x"),
    ],
)
def test_a_url_is_derived_or_given(target, expected):
    assert config.url(target, "shop") == expected


def test_an_apps_config_is_its_variables_and_its_attachments(on_a_host):
    login = on_a_host.login(POSTGRES, "shop")
    assert config.environ(on_a_host, "shop") == {
        "GREETING": "50 % off $PATH",
        "DATABASE_URL": f"postgres://{login}:{on_a_host.password(POSTGRES, 'shop')}@127.0.0.1:5432/shop"
        "?sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem",
        "REDIS_URL": "rediss://shop_4deb37:p%2Fw%40%3A%23%3F%25@127.0.0.1:8099/0"
        "?ssl_ca_certs=/etc/ssl/saltern/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true",
        "FAQ_API": "http://127.0.0.1:8100/v1",
        "MAIL_URL": "smtp://mail.example.com",
        "OLD_URL": "postgres://old.example.com/old",
    }


@pytest.mark.parametrize(
    "target, expected",
    [
        ({"postgres": "shop"}, ["postgresql-client-17"]),
        ({"postgres": "shop", "url": "postgres://db.example.com/x"}, ["postgresql-client-17"]),
        ({"url": "postgresql://db.example.com/x"}, ["postgresql-client-17"]),
        ({"url": "smtp://mail.example.com"}, []),
        ({"redis": "shop"}, []),
    ],
)
def test_an_operator_gets_psql_where_an_app_has_a_database(on_a_host, target, expected):
    on_a_host.pillar["app"]["shop"]["attach"] = {"X": target}
    host = dataclasses.replace(on_a_host, ask={"settings.debian": {"postgres": 17}}.__getitem__)
    assert config.clients(host) == expected


def test_an_app_that_takes_no_url_gets_parts(on_a_host):
    attach = on_a_host.pillar["app"]["shop"]["attach"]
    attach["DATABASE_URL"]["as"] = "url"
    attach["PG"] = attach["DATABASE_URL"] | {"as": "parts"}
    found = config.environ(on_a_host, "shop")
    assert {name: value for name, value in found.items() if name.startswith("PG")} == {
        "PGHOST": "127.0.0.1",
        "PGPORT": "5432",
        "PGUSER": on_a_host.login(POSTGRES, "shop"),
        "PGPASSWORD": on_a_host.password(POSTGRES, "shop"),
        "PGDATABASE": "shop",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/etc/ssl/saltern/ca.pem",
    }
    recorded = config.targets(on_a_host, "shop")
    assert (recorded["PG"], recorded["DATABASE_URL"]) == ({"postgres": "shop", "as": "parts"}, {"postgres": "shop"})


@pytest.mark.parametrize(
    "roles, expected",
    [
        (["app"], []),
        (["app", "database"], [{"postgres_attachment": "postgres-attachment-shop"}]),
        (["cache", "app"], [{"service_config": "redis-loaded-shop"}]),
        (
            ["database", "cache", "app"],
            [{"postgres_attachment": "postgres-attachment-shop"}, {"service_config": "redis-loaded-shop"}],
        ),
    ],
)
def test_an_app_waits_for_what_it_attaches_on_its_own_host(on_a_host, roles, expected):
    on_a_host.pillar["hosts"]["one"]["roles"] = roles
    assert config.requisites(on_a_host, "shop") == expected


def test_a_borrower_waits_for_its_login_and_owns_nothing(on_a_host):
    attach = {"X": {"postgres": "shop", "access": "read"}, "Y": {"redis": "shop", "access": "read"}}
    on_a_host.pillar["app"]["reports"] = {"config": {}, "attach": attach}
    assert config.requisites(on_a_host, "reports") == [
        {"resource": "postgres-lent-shop"},
        {"service_config": "redis-loaded-shop"},
    ]
    assert config.claims(on_a_host, "reports") == []
    assert config.targets(on_a_host, "reports") == attach


def test_a_borrower_has_a_password_of_its_own_that_follows_from_the_owners(on_a_host):
    at = {"address": "127.0.0.1", "port": 5432}
    targets = [{"postgres": "shop", **at}, *({"postgres": "shop", "access": way, **at} for way in ("read", "whole"))]
    secrets = [on_a_host.secret(target, app) for target in targets for app in ("reports", "audit")]
    # The owner has one login, whichever host asks. Each borrower has a login of its own for each access.
    assert len(set(secrets)) == 5
    on_a_host.pillar["postgres"]["databases"]["shop"]["borrowers"] = {"reports": "read", "audit": "whole"}
    lent = on_a_host.lent(POSTGRES, "shop")
    assert [(one.app, one.access, one.password) for one in lent] == [
        ("audit", "whole", on_a_host.secret(targets[2], "audit")),
        ("reports", "read", on_a_host.secret(targets[1], "reports")),
    ]
    url = config.url(targets[1], "reports", lent[1].password)
    assert url.startswith(f"postgres://{lent[1].login}:{lent[1].password}@127.0.0.1:5432/shop?")
    assert lent[1].login.startswith("reports_")
    assert lent[1].password not in repr(lent)


def test_what_takes_another_apps_place_waits_for_who_may_refuse_it(on_a_host):
    assert config.claims(on_a_host, "shop") == [
        {"postgres_attachment": "postgres-attachment-shop"},
        {"redis_instance": "redis-data-shop"},
    ]
    assert config.replacing(on_a_host) == [{"redis_instance": "redis-replaced"}]
    on_a_host.pillar["hosts"]["one"]["roles"] = ["app", "proxy"]
    assert (config.claims(on_a_host, "shop"), config.replacing(on_a_host)) == ([], [])


def test_processes_start_at_boot_after_what_they_attach(on_a_host):
    host = dataclasses.replace(on_a_host, ask=lambda _, formula: on_a_host.pillar[formula])
    assert config.units(host) == ["postgresql.service", "redis-server@shop.service"]


def test_what_identifies_an_attachment_is_recorded_without_what_a_host_derives(on_a_host):
    assert config.targets(on_a_host, "shop") == {
        "DATABASE_URL": {"postgres": "shop"},
        "REDIS_URL": {"redis": "shop"},
        "FAQ_API": {"service": "faq", "version": "v1"},
    }
