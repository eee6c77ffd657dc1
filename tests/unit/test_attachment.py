"""Attachments: what follows from them, what they refuse, and their URLs."""

import copy
import hashlib
import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

from saltern import inventory
from tests.unit.rows import ALL, host

PASSWORD = "correct-horse-battery"


ONE = {"one": host()}
SPLIT = {
    "db": host("database", address="10.0.0.2"),
    "cache": host("cache", address="10.0.0.3"),
    "web1": host("app", address="10.0.0.4"),
    "web2": host("app", address="10.0.0.5"),
    "front": host("proxy", address="10.0.0.6"),
    "elsewhere": host(environment="production", address="10.0.0.7"),
}


def app(port=8000, **settings):
    return {"port": port, "build": {"source": "/a.tar.gz", "sha256": "0" * 64}} | settings


@pytest.fixture(scope="session")
def derive(settings, schemas, attachment):
    """Return a function that derives from apps and what is said of resources, for one host of an inventory."""

    def derived(apps, hosts=ONE, minion_id="one", **more):
        declared = {"app": apps} | more
        assert settings.check(schemas, declared) == []
        complete = {name: settings.with_defaults(schema, declared.get(name, {})) for name, schema in schemas.items()}
        peers = {role: inventory.peers(hosts, minion_id, role) for role in ("database", "cache", "app")}
        return attachment.derive(complete, hosts, minion_id, peers)

    return derived


MISTAKES = {
    "nothing to attach": (
        {"shop": app(attach={"X": {}})},
        ["app.shop.attach.X: expected one of postgres, redis, service or url"],
    ),
    "two things in one": (
        {"shop": app(attach={"X": {"postgres": "shop", "redis": "shop"}})},
        ["app.shop.attach.X: expected one of postgres, redis, service or url"],
    ),
    "a version without a service": (
        {"shop": app(attach={"X": {"url": "https://faq.example.com/v1", "version": "v1"}})},
        ["app.shop.attach.X.version: is a service's; expected it beside service"],
    ),
    "a service that there is not": (
        {"shop": app(attach={"X": {"service": "fqa", "version": "v1"}}), "faq": app(8100)},
        ["app.shop.attach.X.service: no app has this name; expected one of faq, shop"],
    ),
    "a service that provides nothing": (
        {"shop": app(attach={"X": {"service": "faq", "version": "v1"}}), "faq": app(8100)},
        ["app.shop.attach.X.version: faq does not provide it; expected one of none (app.faq.provides)"],
    ),
    "a version that is not provided": (
        {
            "shop": app(attach={"X": {"service": "faq", "version": "v3"}}),
            "faq": app(8100, provides={"v2": {"path": "/v2"}, "v1": {"path": "/v1"}}),
        },
        ["app.shop.attach.X.version: faq does not provide it; expected one of v1, v2 (app.faq.provides)"],
    ),
    "no version": (
        {"shop": app(attach={"X": {"service": "faq"}}), "faq": app(8100, provides={"v1": {"path": "/v1"}})},
        ["app.shop.attach.X.version: faq does not provide it; expected one of v1 (app.faq.provides)"],
    ),
    "a database of two apps": (
        {"a": app(attach={"X": {"postgres": "shop"}}), "b": app(8100, attach={"Y": {"postgres": "shop"}})},
        ["app.b.attach.Y.postgres: belongs to a, which attaches it too; expected one of its own"],
    ),
    "a Redis instance of two apps": (
        {"a": app(attach={"X": {"redis": "shop"}}), "b": app(8100, attach={"Y": {"redis": "shop"}})},
        ["app.b.attach.Y.redis: belongs to a, which attaches it too; expected one of its own"],
    ),
    "a database that is PostgreSQL's own": (
        {"shop": app(attach={"X": {"postgres": "template1"}})},
        ["app.shop.attach.X.postgres: is PostgreSQL's own database; expected another name"],
    ),
    "two databases of one app, whose role has one password": (
        {"shop": app(attach={"A": {"postgres": "shop"}, "B": {"postgres": "stock"}})},
        ["app.shop.attach.B.postgres: shop attaches the database shop too, and an app has one; expected shop"],
    ),
    "two Redis instances of one app, which has one port for them": (
        {"shop": app(attach={"A": {"redis": "jobs"}, "B": {"redis": "pages"}})},
        ["app.shop.attach.B.redis: shop attaches the Redis instance jobs too, and an app has one; expected jobs"],
    ),
    "a variable in config and in attach": (
        {"shop": app(config={"X": "1"}, attach={"X": {"postgres": "shop"}})},
        ["app.shop.config.X: is also in app.shop.attach; expected it in one of them"],
    ),
    "a value too long for execve": (
        {"shop": app(config={"X": "é" * 65535})},
        ["app.shop.config.X: 131072 bytes with its name; expected less than 131072"],
    ),
    "a value that is no Unicode text": (
        {"shop": app(config={"X": "\ud800"})},
        ["app.shop.config.X: expected text that UTF-8 can encode"],
    ),
    "an app with the name of Redis's own user": (
        {"default": app(attach={"X": {"redis": "shop"}})},
        ["app.default.attach.X.redis: default is Redis's own user; expected an app of another name"],
    ),
    "no connections for all": (
        {f"a{n}": app(8000 + 100 * n, attach={"X": {"postgres": f"d{n}"}}) for n in range(4)},
        [
            "postgres.max_connections: 4 databases would need 11 connections, 3 for operators and at least 2 for each "
            "that says nothing among them; expected at most the 10 of postgres.max_connections"
        ],
    ),
    "more connections than there are": (
        {"a": app(attach={"X": {"postgres": "a"}}), "b": app(8100, attach={"X": {"postgres": "b"}})},
        [
            "postgres.databases.b.connections: 2 databases would need 11 connections, 3 for operators and at least 2 "
            "for each that says nothing among them; expected at most the 10 of postgres.max_connections"
        ],
    ),
    "a wait that is over before an answer may be": (
        {"shop": app(site={"timeout": 120}, in_flight={"requests": 119})},
        [
            "app.shop.in_flight.requests: 119 s would cut off answers that app.shop.site.timeout allows; "
            "expected at least 120"
        ],
    ),
    "one port for two apps": (
        {"a": app(), "b": app(), "c": app()},
        [f"app.{name}.port: is also the port of a; expected one of its own" for name in "bc"],
    ),
    "one domain for two apps": (
        {"a": app(domains=["a.example.com", "b.example.com"]), "b": app(8100, domains=["b.example.com"])},
        ["app.b.domains[0]: is also a domain of a; expected it once"],
    ),
}


@pytest.mark.parametrize("apps, expected", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_path(derive, apps, expected):
    postgres = {"max_connections": 10} if "max_connections" in expected[0] else {}
    if "databases.b.connections" in expected[0]:
        postgres["databases"] = {"b": {"connections": 6}}
    assert derive(apps, postgres=postgres)[1] == expected


def test_each_database_has_its_share_of_the_connections(derive):
    apps = {name: app(8000 + 100 * n, attach={"X": {"postgres": name}}) for n, name in enumerate("abc")}
    found = derive(copy.deepcopy(apps))[0]["postgres"]["databases"]
    assert {name: one["connections"] for name, one in found.items()} == {"a": 32, "b": 32, "c": 32}
    found = derive(apps, postgres={"databases": {"b": {"connections": 50}}})[0]["postgres"]["databases"]
    assert {name: one["connections"] for name, one in found.items()} == {"a": 23, "b": 50, "c": 23}


def test_a_longest_value_is_accepted(derive):
    assert derive({"shop": app(config={"X": "v" * (131071 - len("X="))})})[1] == []


def test_a_resource_that_no_app_attaches_is_a_mistake(derive):
    _, found = derive(
        {"shop": app(attach={"X": {"postgres": "shop", "url": "postgres://db.example.com/shop"}})},
        postgres={"databases": {"shop": {}, "stock": {}}},
        redis={"instances": {"shop": {}}},
    )
    assert found == [
        "postgres.databases.stock: no app attaches it; expected the name of an attached postgres",
        "redis.instances.shop: no app attaches it; expected the name of an attached redis",
    ]


@pytest.mark.parametrize(
    "target, role", [({"postgres": "shop"}, "database"), ({"redis": "shop"}, "cache"), ({"service": "shop"}, "app")]
)
def test_an_environment_without_the_host_for_it_is_a_mistake(derive, target, role):
    hosts = {"one": host("proxy"), "two": host(environment="production")}
    if "service" in target:
        target["version"] = "v1"
    apps = {"shop": app(attach={"X": target}, provides={"v1": {"path": "/v1"}})}
    assert derive(apps, hosts)[1] == [
        f"app.shop.attach.X: no host of dev has the role {role}; expected one in pillar/hosts.yaml"
    ]


BOTH = {"shop": app(attach={"A": {"postgres": "shop"}, "B": {"redis": "shop"}})}


@pytest.mark.parametrize("minion_id", ["db", "cache", "web1", "front"])
def test_several_hosts_must_be_told_a_password(derive, minion_id):
    expected = (
        "missing; expected text, in pillar/secrets: several hosts must know it, so that none can make it for itself"
    )
    assert derive(copy.deepcopy(BOTH), SPLIT, minion_id)[1] == [
        f"postgres.databases.shop.password: {expected}",
        f"redis.instances.shop.password: {expected}",
    ]


@pytest.mark.parametrize(
    "minion_id, database, cache",
    [
        ("db", "127.0.0.1", "10.0.0.3"),
        ("cache", "10.0.0.2", "127.0.0.1"),
        ("web1", "10.0.0.2", "10.0.0.3"),
    ],
)
def test_a_resource_is_reached_at_the_host_that_has_its_role(derive, minion_id, database, cache):
    given_passwords = {
        "postgres": {"databases": {"shop": {"password": PASSWORD}}},
        "redis": {"instances": {"shop": {"password": PASSWORD}}},
    }
    found, mistakes = derive(copy.deepcopy(BOTH), SPLIT, minion_id, **given_passwords)
    assert mistakes == []
    assert found["app"]["shop"]["attach"] == {
        "A": {"postgres": "shop", "address": database, "port": 5432},
        "B": {"redis": "shop", "address": cache, "port": 8099},
    }
    assert found["postgres"]["databases"] == {"shop": {"password": PASSWORD, "owner": "shop", "connections": 97}}
    assert found["redis"]["instances"]["shop"] == {"password": PASSWORD, "owner": "shop", "port": 8099}


REACHED = {
    "one host alone": (ONE, "one", [], ["127.0.0.1/32", "::1/128"], True),
    "the database's": (SPLIT, "db", ["10.0.0.2"], ["10.0.0.4/32", "10.0.0.5/32"], False),
    "the cache's": (SPLIT, "cache", ["10.0.0.3"], ["10.0.0.4/32", "10.0.0.5/32"], False),
    "an app host": (SPLIT, "web1", ["10.0.0.4"], ["127.0.0.1/32", "::1/128", "10.0.0.5/32"], False),
    "a proxy": (SPLIT, "front", ["10.0.0.6"], ["10.0.0.4/32", "10.0.0.5/32"], True),
    "another environment's": (SPLIT, "elsewhere", [], ["127.0.0.1/32", "::1/128"], True),
}


@pytest.mark.parametrize("hosts, minion_id, listen, clients, alone", REACHED.values(), ids=REACHED)
def test_a_resource_is_open_to_the_app_hosts_of_its_environment(derive, hosts, minion_id, listen, clients, alone):
    given_passwords = {
        "postgres": {"databases": {"shop": {"password": PASSWORD}}},
        "redis": {"instances": {"shop": {"password": PASSWORD}}},
    }
    found, mistakes = derive(copy.deepcopy(BOTH), hosts, minion_id, **given_passwords)
    assert mistakes == []
    assert (found["postgres"]["listen"], found["redis"]["listen"]) == (listen, listen)
    assert found["postgres"]["clients"] == clients
    assert found["certificates"]["alone"] is alone


def test_a_host_that_shares_nothing_needs_no_certificate_of_others(derive):
    found, mistakes = derive({"shop": app(attach={"X": {"url": "postgres://db.example.com/shop"}})}, SPLIT, "web1")
    assert (mistakes, found["certificates"]["alone"]) == ([], True)


def test_a_digest_is_of_the_apps_password_or_of_the_hosts_own(on_a_host):
    # Worked out with `printf 'p/w@:#?%%' | sha256sum`.
    assert on_a_host.digest("shop") == "0a7f65b8e1c28a2c49d4eccc26201b5cdd5a0f92e9cfc720a2e209544a562c98"
    own = on_a_host.operator_password("shop")
    assert own not in (on_a_host.password("redis", "shop"), on_a_host.password("postgres", "shop"))
    assert on_a_host.digest("shop", "operator") == hashlib.sha256(own.encode()).hexdigest()


def test_a_resource_with_a_url_is_somebody_elses(derive):
    attach = {"X": {"postgres": "shop", "url": "postgres://db.example.com/shop"}}
    # What is said of the one before may stay.
    found, mistakes = derive({"shop": app(attach=attach)}, postgres={"databases": {"shop": {"password": PASSWORD}}})
    assert mistakes == []
    assert found["postgres"]["databases"]["shop"]["owner"] is None
    assert found["certificates"]["alone"] is True


def test_one_database_may_be_attached_by_two_variables(derive):
    assert derive({"shop": app(attach={"A": {"postgres": "shop"}, "B": {"postgres": "shop"}})})[1] == []


@pytest.mark.parametrize("minion_id, address", [("web1", "127.0.0.1"), ("db", "10.0.0.4")])
def test_a_service_is_reached_at_an_app_host(derive, minion_id, address):
    apps = {
        "shop": app(attach={"FAQ": {"service": "faq", "version": "v2"}}),
        "faq": app(8100, provides={"v2": {"path": "/api/v2"}}),
    }
    found, mistakes = derive(apps, SPLIT, minion_id)
    assert mistakes == []
    target = found["app"]["shop"]["attach"]["FAQ"]
    assert target == {"service": "faq", "version": "v2", "address": address, "port": 8100, "path": "/api/v2"}


SITES = {
    "an app with a domain": (app(domains=["shop.example.com"]), ALL, True, True),
    "an app without a domain": (app(), ALL, False, True),
    "an app without web processes": (app(domains=["a.b"], formation={"worker": 1}), ALL, False, False),
    "an app whose web processes are scaled to none": (app(domains=["a.b"], formation={"web": 0}), ALL, False, False),
    "a host that is no proxy": (app(domains=["a.b"]), ["app"], False, True),
    "a host that is a proxy only": (app(domains=["a.b"]), ["proxy"], True, False),
}


@pytest.mark.parametrize("one, roles, site, front", SITES.values(), ids=SITES)
def test_nginx_serves_what_has_web_processes(derive, one, roles, site, front):
    found, mistakes = derive({"shop": one}, {"one": host(*roles)})
    assert mistakes == []
    served = {"domains": one.get("domains", []), "port": 8000, "body_size": "10m", "timeout": 60, "extra": ""}
    served |= {"buffering": True}
    assert found["nginx"]["sites"] == ({"shop": served} if site else {})
    assert found["nginx"]["fronts"] == ({"shop": served} if front else {})
    assert found["nginx"]["idle"] == ([] if site or front else one["domains"])


PASSWORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=256)


@hypothesis_settings(deadline=None)
@given(secret=PASSWORDS)
def test_any_password_comes_back_from_its_url(attachment, secret):
    at = {"address": "127.0.0.1", "port": 5432}
    parts = urlsplit(attachment.url({"postgres": "the_shop"} | at, "my-shop", secret))
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("postgres", "127.0.0.1", 5432, "/the_shop")
    assert (parts.username, unquote(parts.password)) == (attachment.login_of("my-shop", "postgres", secret), secret)
    assert parts.query == "sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem"
    parts = urlsplit(attachment.url({"redis": "shop"} | at, "my-shop", secret))
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("rediss", "127.0.0.1", 5432, "/0")
    assert (parts.username, unquote(parts.password)) == (attachment.login_of("my-shop", "redis", secret), secret)
    assert parts.query == "ssl_ca_certs=/etc/ssl/saltern/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true"


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
def test_a_url_is_derived_or_given(attachment, target, expected):
    assert attachment.url(target, "shop") == expected


def test_a_derived_password_is_the_same_each_time_and_unlike_any_other(attachment):
    # Worked out with `printf postgres/shop | openssl dgst -sha256 -hmac key`.
    assert attachment.derive_password("key", "postgres", "shop") == "5b3b3ad27e74566ffa19f3f44db6b5011a96e95c"
    others = {
        attachment.derive_password(key, kind, name)
        for key in ("key", "key2")
        for kind in ("postgres", "redis")
        for name in ("shop", "stock")
    }
    assert len(others) == 8


def test_a_derived_password_is_one_that_the_settings_would_accept(settings, schemas, attachment):
    password = attachment.derive_password("key", "redis", "shop")
    assert settings.check(schemas, {"redis": {"instances": {"shop": {"password": password}}}}) == []


@pytest.fixture
def on_a_host(attachment, dunders, tmp_path):
    """Give the module a host with a key and one app."""
    (tmp_path / "host.key").write_text("key\n")
    attach = {
        "DATABASE_URL": {"postgres": "shop", "address": "127.0.0.1", "port": 5432},
        "REDIS_URL": {"redis": "shop", "address": "127.0.0.1", "port": 8099},
        "FAQ_API": {"service": "faq", "version": "v1", "address": "127.0.0.1", "port": 8100, "path": "/v1"},
        "MAIL_URL": {"url": "smtp://mail.example.com"},
        "OLD_URL": {"postgres": "old", "url": "postgres://old.example.com/old"},
    }
    pillar = {
        "app": {"shop": {"config": {"GREETING": "50 % off $PATH"}, "attach": attach}},
        "postgres": {"databases": {"shop": {"owner": "shop"}}},
        "redis": {"instances": {"shop": {"owner": "shop", "password": "p/w@:#?%"}}},
    }
    dunders(attachment, pillar=pillar, opts={"conf_file": str(tmp_path / "minion")})
    return attachment


def test_a_password_is_the_pillars_or_this_hosts_own(on_a_host):
    assert on_a_host.password("redis", "shop") == "p/w@:#?%"
    assert on_a_host.password("postgres", "shop") == on_a_host.derive_password("key", "postgres", "shop")


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_host_without_a_key_makes_no_password(on_a_host, tmp_path, content):
    (tmp_path / "host.key").unlink()
    if content is not None:
        (tmp_path / "host.key").write_text(content)
    with pytest.raises(CommandExecutionError, match=r"host\.key: missing; expected this host's key"):
        on_a_host.password("postgres", "shop")


def test_an_apps_config_is_its_variables_and_its_attachments(on_a_host):
    login = on_a_host.login("postgres", "shop")
    assert on_a_host.environ("shop") == {
        "GREETING": "50 % off $PATH",
        "DATABASE_URL": f"postgres://{login}:{on_a_host.password('postgres', 'shop')}@127.0.0.1:5432/shop"
        "?sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem",
        "REDIS_URL": "rediss://shop_4deb37:p%2Fw%40%3A%23%3F%25@127.0.0.1:8099/0"
        "?ssl_ca_certs=/etc/ssl/saltern/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true",
        "FAQ_API": "http://127.0.0.1:8100/v1",
        "MAIL_URL": "smtp://mail.example.com",
        "OLD_URL": "postgres://old.example.com/old",
    }


def test_settings_stay_data_that_salt_can_hand_on(derive):
    found, _ = derive(copy.deepcopy(BOTH))
    assert json.loads(json.dumps(found)) == found


OF = {
    "a database": ("postgres://shop:pw@127.0.0.1:5432/stock", "postgres", "stock", True),
    "another database": ("postgres://shop:pw@127.0.0.1:5432/other", "postgres", "stock", False),
    "a database elsewhere": ("postgres://shop:pw@db.example.com/stock", "postgres", "stock", False),
    "a database at the host's address": ("postgres://shop:pw@10.0.0.1:5432/stock?sslmode=x", "postgres", "stock", True),
    "an instance": ("rediss://shop:pw@127.0.0.1:8199/0?ssl_cert_reqs=required", "redis", "8199", True),
    "an instance of before TLS": ("redis://:pw@127.0.0.1:8199/0", "redis", "8199", True),
    "another instance": ("redis://:pw@127.0.0.1:8299/0", "redis", "8199", False),
    "a service": ("http://127.0.0.1:8199/stock", "postgres", "stock", False),
    "no URL": ("stock", "postgres", "stock", False),
    "a broken URL": ("postgres://[::1/stock", "postgres", "stock", False),
    "a port that is none": ("redis://:pw@127.0.0.1:x/0", "redis", "8199", False),
}


@pytest.mark.parametrize("value, kind, name, expected", OF.values(), ids=OF)
def test_a_variable_is_known_as_the_url_of_a_resource(attachment, value, kind, name, expected):
    assert attachment.is_of(value, kind, name, "10.0.0.1") is expected


RUNNING = [("gone", 4), ("shop", 2), ("shop", 3)]


@pytest.mark.parametrize(
    "test, planned, staying, expected",
    [
        (False, 3, [], ["gone v4", "shop v2", "shop v3"]),
        (False, 3, ["", "shop"], ["gone v4", "shop v2", "shop v3"]),
        (True, 3, [], ["shop v3"]),
        (True, 4, [], []),
        (True, 4, ["other"], []),
        (True, 4, ["shop"], ["shop v2", "shop v3"]),
        (True, 4, ["", "shop"], ["gone v4", "shop v2", "shop v3"]),
        (True, None, [], ["shop v2", "shop v3"]),
    ],
    ids=[
        *("a converge", "a converge that failed", "a dry run", "a dry run before a release"),
        *("a dry run in which another app's release fails", "a dry run in which the release fails"),
        *("a dry run in which a removal fails too", "a dry run of what cannot be"),
    ],
)
def test_the_releases_that_have_a_resource_are_named(attachment, dunders, test, planned, staying, expected):
    def plan(app):
        if planned is None:
            raise CommandExecutionError("no")
        return {"number": planned}

    salt = {
        "process.releases": lambda: RUNNING,
        "release_store.environ": lambda app, number: {"DATABASE_URL": b"postgres://shop:pw@127.0.0.1/stock"},
        "release.plan": plan,
    }
    dunders(attachment, salt=salt, opts={"test": test, "id": "one"}, pillar={"app": {"shop": {}}, "hosts": ONE})
    assert attachment.users("postgres", "stock", staying) == expected
    assert attachment.users("postgres", "other", staying) == []
    found = attachment.holders("postgres", leaving=not test, staying=staying)
    assert found == ({"shop": expected} if expected else {})


URLS = {
    "a database": (
        "postgres://shop_0a0a0a:pw@127.0.0.1:5432/stock?sslrootcert=/etc/ssl/saltern/ca.pem",
        {"postgres": "stock"},
    ),
    "one of before there were logins": (
        "postgres://shop:pw@127.0.0.1:5432/stock?sslrootcert=%2Fetc%2Fssl%2Fsaltern%2Fca.pem",
        {"postgres": "stock"},
    ),
    "an instance": ("rediss://shop:pw@127.0.0.1:8099/0?ssl_ca_certs=/etc/ssl/saltern/ca.pem", {"redis": "jobs"}),
    "an instance that is gone": (
        "rediss://shop:pw@127.0.0.1:8199/0?ssl_ca_certs=/etc/ssl/saltern/ca.pem",
        {"redis": "at port 8199"},
    ),
    "somebody else's database": ("postgres://shop:pw@db.example.com/stock", {}),
    "another app's": ("postgres://shop-2:pw@127.0.0.1:5432/stock?sslrootcert=/etc/ssl/saltern/ca.pem", {}),
    "text": ("stock", {}),
    "a broken URL": ("postgres://[::1/stock", {}),
}


@pytest.mark.parametrize("value, expected", URLS.values(), ids=URLS)
def test_what_a_release_of_before_has_attached_is_read_from_its_urls(attachment, value, expected):
    assert attachment.told(value, "shop", {8099: "jobs"}) == expected


@pytest.fixture
def going_back(on_a_host, dunders):
    """A function that renews the attachments of v1, of which v2 serves; of each what it has attached and its config."""

    def renewed(attached, environ, serving=None, ready=True):
        records = {1: {"attached": attached} if attached is not None else {}, 2: {"attached": serving or {}}}
        environs = {1: environ, 2: {name: f"{name} of v2".encode() for name in serving or {}}}
        salt = {
            "release_store.record": lambda app, number: records[number],
            "release_store.environ": lambda app, number: environs[number],
            "postgres_attachment.plan": lambda *database: ({} if ready else {"login": 1}, []),
            "redis_connection.admitted": lambda name, port: [on_a_host.login("redis", "shop")] if ready else [],
        }
        dunders(on_a_host, salt=salt)
        on_a_host.__opts__["id"] = "one"
        on_a_host.__pillar__["hosts"] = {"one": {"roles": ["database", "cache", "app"]}}
        on_a_host.__pillar__["postgres"]["databases"]["shop"]["connections"] = 97
        on_a_host.__pillar__["redis"]["instances"]["shop"]["port"] = 8099
        on_a_host.__pillar__["app"]["faq"] = {"port": 8100, "provides": {"v1": {"path": "/v1"}}}
        return on_a_host.renewed("shop", 1, 2)

    return renewed


def test_a_release_that_is_gone_back_to_has_the_attachments_of_today(going_back, on_a_host):
    today = on_a_host.environ("shop")
    environ = {"DATABASE_URL": b"of v1", "JOBS": b"of v1", "FAQ": b"of v1", "MARK": b"of v1", "MAIL_URL": b"of v1"}
    attached = {
        "DATABASE_URL": {"postgres": "shop"},
        "JOBS": {"redis": "shop"},
        "FAQ": {"service": "faq", "version": "v1"},
    }
    # What serves works, whatever the pillar says by now.
    values, missing = going_back(attached, environ, {"DB": {"postgres": "shop"}})
    assert (values, missing) == ({"DATABASE_URL": "DB of v2", "JOBS": today["REDIS_URL"], "FAQ": today["FAQ_API"]}, [])
    # A variable that was taken out of its config by hand stays out.
    assert going_back(attached, {"JOBS": b"of v1"})[0].keys() == {"JOBS"}
    # What it had as its own config comes back as it was, also where it is an attachment by now.
    assert going_back({}, environ, {"DATABASE_URL": {"postgres": "shop"}}) == ({}, [])


def test_a_release_of_before_is_given_the_attachments_of_today_too(going_back, on_a_host):
    query = b"?sslrootcert=/etc/ssl/saltern/ca.pem"
    environ = {"DATABASE_URL": b"postgres://shop:old@127.0.0.1:5432/shop" + query, "FAQ_API": b"http://127.0.0.1:1/v1"}
    today = on_a_host.environ("shop")
    assert going_back(None, environ) == ({name: today[name] for name in environ}, [])


GONE = {
    "another database": ({"postgres": "stock"}, "the database stock is no longer attached"),
    "a database that a URL replaces": ({"postgres": "old"}, "the database old is no longer attached"),
    "an instance": ({"redis": "jobs"}, "the Redis instance jobs is no longer attached"),
    "an app": ({"service": "mail", "version": "v1"}, "there is no app mail"),
    "a version": ({"service": "faq", "version": "v2"}, "faq no longer provides v2"),
}


@pytest.mark.parametrize("target, expected", GONE.values(), ids=GONE)
def test_what_a_release_has_attached_and_is_not_there_any_more_is_named(going_back, target, expected):
    assert going_back({"X": target}, {"X": b"of v1"}) == ({}, [f"{expected}, which it has as X"])


def test_what_is_declared_and_not_made_yet_is_named_where_no_release_serves_with_it(going_back):
    attached = {"A": {"postgres": "shop"}, "B": {"redis": "shop"}}
    environ = {"A": b"of v1", "B": b"of v1"}
    assert going_back(attached, environ, ready=False)[1] == [
        "the database shop is not as declared yet, which it has as A",
        "the Redis instance shop is not as declared yet, which it has as B",
    ]
    assert going_back(attached, environ, attached, ready=False) == ({"A": "A of v2", "B": "B of v2"}, [])


def test_who_logs_in_by_what_is_known_of_the_releases_that_run(attachment, dunders):
    environs = {
        ("shop", 2): {"DATABASE_URL": b"postgres://shop_0a0a0a:pw@10.0.0.2/stock", "MARK": b"x"},
        ("shop", 3): {
            "A": b"postgres://shop_0b0b0b:pw@10.0.0.2/stock",
            "B": b"postgres://shop_0b0b0b:pw@10.0.0.2/stock",
        },
        ("gone", 4): {"DATABASE_URL": b"postgres://gone:pw@10.0.0.2/gone", "REDIS_URL": b"redis://:pw@10.0.0.2/0"},
    }
    salt = {
        "process.releases": lambda: sorted(environs),
        "release_store.environ": lambda app, number: environs[app, number],
        "release.plan": lambda app: {"number": 3},
    }
    dunders(attachment, salt=salt, pillar={"app": {"shop": {}}})
    expected = {"gone": ["gone v4"], "shop_0a0a0a": ["shop v2"], "shop_0b0b0b": ["shop v3"]}
    assert attachment.holders("postgres") == expected
    assert attachment.holders("postgres", leaving=False) == {"shop_0b0b0b": ["shop v3"]}
