"""Attachments that are refused: each message names the path and says what was expected."""

import copy

import pytest

from saltern import services
from tests.unit.attachments.declared import BOTH, SPLIT, STOCK, app
from tests.unit.rows import host

*MOST, LAST = services.listed()
KINDS = f"{', '.join(MOST)} or {LAST}"
MISTAKES = {
    "nothing to attach": (
        {"shop": app(attach={"X": {}})},
        [f"app.shop.attach.X: expected one of {KINDS}"],
    ),
    "two things in one": (
        {"shop": app(attach={"X": {"postgres": "shop", "redis": "shop"}})},
        [f"app.shop.attach.X: expected one of {KINDS}"],
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
    "two Redis instances of one app at one port": (
        {"shop": app(attach={"A": {"redis": "jobs"}, "B": {"redis": "pages"}})},
        [
            "redis.instances.pages.offset: 99 is the offset of jobs too, and shop attaches both; expected another for "
            "the newer of the two, such as 98"
        ],
    ),
    "web processes at the port of a Redis instance": (
        {
            "faq": app(8100, formation={"web": 48}, attach={"X": {"redis": "faq"}}),
            "shop": app(formation={"web": 49}, attach={"A": {"redis": "jobs"}, "B": {"redis": "pages"}}),
        },
        [
            "app.shop.formation.web: 49 processes need the port 8098, which redis pages has; expected at most 48",
        ],
    ),
    "a variable in config and in attach": (
        {"shop": app(config={"X": "1"}, attach={"X": {"postgres": "shop"}})},
        ["app.shop.config.X: is also in app.shop.attach; expected it in one of them"],
    ),
    "a part that is in config too": (
        {"shop": app(config={"PGHOST": "x", "PG": "x"}, attach={"PG": {"postgres": "shop", "as": "parts"}})},
        [
            "app.shop.attach.PG: would give PGHOST, which is app.shop.config.PGHOST too; expected it in one of them",
        ],
    ),
    "a part that is another attachment too": (
        {"shop": app(attach={"X": {"redis": "shop", "as": "parts"}, "X_HOST": {"postgres": "shop"}})},
        [
            "app.shop.attach.X_HOST: would give X_HOST, which is app.shop.attach.X too; expected it in one of them",
        ],
    ),
    "a part that is supervisor's": (
        {
            "faq": app(8100, provides={"v1": {"path": "/v1"}}),
            "shop": app(attach={"SUPERVISOR": {"service": "faq", "version": "v1", "as": "parts", "url": "http://x"}}),
        },
        [
            "app.shop.attach.SUPERVISOR: would give SUPERVISOR_HOST, which is no app's variable; expected another name",
        ],
    ),
    "parts of a URL alone": (
        {"shop": app(attach={"X": {"url": "https://faq.example.com/v1", "as": "parts"}})},
        ["app.shop.attach.X.as: a URL alone tells no parts; expected the service that it replaces beside it"],
    ),
    "a URL that has no parts": (
        {"shop": app(attach={"X": {"postgres": "shop", "url": "postgres://h:port/shop", "as": "parts"}})},
        [
            "app.shop.attach.X.url: its parts cannot be told; expected a URL such as postgres://shop@db:5432/shop",
        ],
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
        {"a": app(domains=["b.example.com"]), "b": app(8100, domains=["b.example.com"])},
        [
            "app.b.domains[0]: is also a domain of a; expected it once, or a path of its own in app.b.site.path, such "
            "as /b/"
        ],
    ),
}


@pytest.mark.parametrize("apps, expected", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_by_path(derived, apps, expected):
    postgres = {"max_connections": 10} if "max_connections" in expected[0] else {}
    if "databases.b.connections" in expected[0]:
        postgres["databases"] = {"b": {"connections": 6}}
    redis = {"instances": {"pages": {"offset": 98}}} if "redis pages" in expected[0] else {}
    assert derived(apps, postgres=postgres, redis=redis)[1] == expected


@pytest.mark.parametrize(
    "offsets, told",
    [
        ({"a": 98, "b": 98}, ["b.offset: 98 is the offset of a too", "such as 99"]),
        ({"a": None, "b": 99}, ["a.offset: 99 is the offset of b too", "such as 98"]),
        ({"a": None, "b": None, "c": 98}, ["b.offset: 99 is the offset of a too", "such as 97"]),
    ],
    ids=["both say it", "one says it", "neither says it, and there is a third"],
)
def test_a_port_of_two_instances_is_told_with_what_to_write(derived, offsets, told):
    attach = {name.upper(): {"redis": name} for name in offsets}
    instances = {name: {"offset": offset} for name, offset in offsets.items() if offset}
    (found,) = derived({"shop": app(attach=attach)}, redis={"instances": instances})[1]
    assert found.startswith(f"redis.instances.{told[0]}")
    assert found.endswith(told[1])


SHARED = {
    "not shared": (
        {"shop": app(attach=STOCK), "a": app(8100, attach={"X": {"postgres": "stock", "access": "read"}})},
        {},
        ["app.a.attach.X.postgres: shop does not share it; expected postgres.databases.stock.share: {a: read}"],
    ),
    "to read alone": (
        {"shop": app(attach=STOCK), "a": app(8100, attach={"X": {"redis": "jobs", "access": "whole"}})},
        {"a": "read"},
        [
            "app.a.attach.X.access: shop shares it to read; expected read, or redis.instances.jobs.share.a: whole",
        ],
    ),
    "whole, where it is to be read": (
        {"shop": app(attach=STOCK), "a": app(8100, attach={"X": {"postgres": "stock", "access": "read"}})},
        {"a": "whole"},
        [
            "app.a.attach.X.access: shop shares it to whole; expected whole, or postgres.databases.stock.share.a: read",
        ],
    ),
    "the owner is gone": (
        {"a": app(8100, attach={"X": {"postgres": "stock", "access": "read"}, "Y": {"redis": "jobs"}})},
        {"a": "read"},
        [
            "app.a.attach.X.postgres: no app has the database stock as its own; expected one that its app shares",
            "redis.instances.jobs.share.a: no other app has this name; expected one of none",
        ],
    ),
    "a resource that nobody has": (
        {"a": app(8100, attach={"X": {"redis": "jbos", "access": "read"}})},
        {},
        ["app.a.attach.X.redis: no app has the Redis instance jbos as its own; expected one that its app shares"],
    ),
    "its own": (
        {"shop": app(attach=STOCK | {"X": {"postgres": "stock", "access": "read"}}), "a": app(8100)},
        {"a": "read"},
        ["app.shop.attach.X.access: the database stock is the app's own; expected no access, or as: reader"],
    ),
    "a reader of another app's database": (
        {"shop": app(attach=STOCK), "a": app(8100, attach={"X": {"postgres": "stock", "as": "reader"}})},
        {"a": "read"},
        ["app.a.attach.X.as: the database stock is shop's; expected access: read, as shop shares it"],
    ),
    "a reader of no database of its own": (
        {"shop": app(attach={"X": {"postgres": "stock", "as": "reader"}})},
        {},
        [
            "app.shop.attach.X.postgres: no app has the database stock as its own; expected one that this app attaches "
            "as its own, too"
        ],
    ),
    "a reader with an access": (
        {"shop": app(attach=STOCK | {"X": {"postgres": "stock", "as": "reader", "access": "read"}})},
        {},
        [
            "app.shop.attach.X.access: is for what another app owns; expected as: reader alone, or access without it",
        ],
    ),
    "a reader of a Redis instance": (
        {"shop": app(attach=STOCK | {"X": {"redis": "jobs", "as": "reader"}})},
        {},
        ["app.shop.attach.X.as: reader is a way to have a database; expected it beside postgres"],
    ),
    "a reader of a database with a long name": (
        {"shop": app(attach={"B": {"postgres": "s" * 58}, "X": {"postgres": "s" * 58, "as": "reader"}})},
        {},
        ["app.shop.attach.X.as: the database has too long a name for a reader; expected 57 characters at most"],
    ),
    "an app that there is not": (
        {"shop": app(attach=STOCK), "a": app(8100)},
        {"b": "read"},
        [
            f"{setting}.share.b: no other app has this name; expected one of a"
            for setting in ("postgres.databases.stock", "redis.instances.jobs")
        ],
    ),
    "one of a service that lends none": (
        {
            "shop": app(attach=STOCK),
            "a": app(8100, attach={"X": {"memcached": "shop", "access": "read"}}),
        },
        {"a": "read"},
        ["app.a.attach.X.access: a memcached instance is of one app alone; expected one of its own, without an access"],
    ),
    "an access to a service": (
        {"shop": app(attach=STOCK | {"X": {"service": "shop", "version": "v1", "access": "read"}}), "a": app(8100)},
        {"a": "read"},
        ["app.shop.attach.X.access: is of a resource of another app; expected it beside one, such as postgres"],
    ),
}


@pytest.mark.parametrize("apps, share, expected", SHARED.values(), ids=SHARED)
def test_what_is_not_shared_so_is_told_by_path(derived, apps, share, expected):
    more = {"postgres": {"databases": {"stock": {"share": share}}}, "redis": {"instances": {"jobs": {"share": share}}}}
    # A resource that nobody shares needs no setting.
    assert derived(apps, **(more if share else {}))[1] == expected


def test_a_database_with_too_long_a_name_is_not_shared(derived):
    name = "d" * 58
    apps = {"shop": app(attach={"X": {"postgres": name}}), "a": app(8100)}
    assert derived(apps, postgres={"databases": {name: {"share": {"a": "read"}}}})[1] == [
        f"postgres.databases.{name}.share: its name is too long for that; expected 57 characters at most"
    ]


def test_a_resource_that_no_app_attaches_is_a_mistake(derived):
    _, found = derived(
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
def test_an_environment_without_the_host_for_it_is_a_mistake(derived, target, role):
    hosts = {"one": host("proxy"), "two": host(environment="production")}
    if "service" in target:
        target["version"] = "v1"
    apps = {"shop": app(attach={"X": target}, provides={"v1": {"path": "/v1"}})}
    assert derived(apps, hosts)[1] == [
        f"app.shop.attach.X: no host of dev has the role {role}; expected one in pillar/hosts.yaml"
    ]


@pytest.mark.parametrize("minion_id", ["db", "cache", "web1", "front"])
def test_several_hosts_must_be_told_a_password(derived, minion_id):
    expected = (
        "missing; expected text, in pillar/secrets: several hosts must know it, so that none can make it for itself"
    )
    assert derived(copy.deepcopy(BOTH), SPLIT, minion_id)[1] == [
        f"postgres.databases.shop.password: {expected}",
        f"redis.instances.shop.password: {expected}",
    ]


MEDIA = {"MEDIA_ROOT": {"storage": "media"}}
BOTH_ROLES = {"one": host("app", "storage", "proxy")}
WAY = "expected a url beside it, such as that of an S3 bucket, or one app host"
STORAGES = {
    "nothing wrong": ({"shop": app(attach=MEDIA, site={"serve": {"/m/": {"storage": "media"}}})}, BOTH_ROLES, []),
    "a storage of two apps": (
        {"a": app(attach=MEDIA), "b": app(8100, attach=MEDIA)},
        BOTH_ROLES,
        ["app.b.attach.MEDIA_ROOT.storage: belongs to a, which attaches it too; expected one of its own"],
    ),
    "one of another app": (
        {"a": app(attach=MEDIA), "b": app(8100, attach={"X": {"storage": "media", "access": "read"}})},
        BOTH_ROLES,
        ["app.b.attach.X.access: a storage is of one app alone; expected one of its own, without an access"],
    ),
    "one in parts": (
        {"shop": app(attach={"X": {"storage": "media", "as": "parts"}})},
        BOTH_ROLES,
        ["app.shop.attach.X.as: the app gets a path, which has no parts; expected it without"],
    ),
    "one that the app does not attach, to be served": (
        {"shop": app(attach=MEDIA, site={"serve": {"/m/": {"storage": "photos"}}})},
        BOTH_ROLES,
        ["app.shop.site.serve./m/.storage: shop attaches no storage of this name; expected one of media"],
    ),
    "no host for it": (
        {"shop": app(attach=MEDIA)},
        {"one": host("app")},
        ["app.shop.attach.MEDIA_ROOT: no host of dev has the role storage; expected one in pillar/hosts.yaml"],
    ),
    "several app hosts": (
        {"shop": app(attach=MEDIA)},
        {"one": host("app", "storage"), "two": host("app", address="10.0.0.2")},
        [
            "app.shop.attach.MEDIA_ROOT.storage: dev has the app hosts one, two, and a directory is on one host alone; "
            + WAY
        ],
    ),
    "a host that has no apps": (
        {"shop": app(attach=MEDIA)},
        {"one": host("app"), "two": host("storage", address="10.0.0.2")},
        [
            "app.shop.attach.MEDIA_ROOT.storage: the role storage is at two, and the app host is one; expected the "
            "role at the app host alone, in pillar/hosts.yaml, or a url beside it"
        ],
    ),
    "somebody else's, with several app hosts": (
        {
            "shop": app(
                attach={"MEDIA_ROOT": {"storage": "media", "url": "s3://bucket"}},
                site={"serve": {"/m/": {"storage": "media"}}},
            )
        },
        {"one": host("app"), "two": host("app", address="10.0.0.2")},
        [],
    ),
}


@pytest.mark.parametrize("apps, hosts, expected", STORAGES.values(), ids=STORAGES)
def test_a_mistake_about_a_storage_is_told_by_path(derived, apps, hosts, expected):
    assert derived(copy.deepcopy(apps), hosts)[1] == expected


def test_a_storage_is_noted_with_its_app_and_whether_nginx_serves_it(derived):
    one = app(attach=MEDIA | {"X": {"storage": "x"}}, site={"serve": {"/m/": {"storage": "media"}}})
    found, _ = derived({"shop": one}, BOTH_ROLES, storage={"directories": {"media": {"quota": "10g"}}})
    assert found["storage"]["directories"] == {
        "media": {"owner": "shop", "served": True, "quota": "10g"},
        "x": {"owner": "shop"},
    }
    # Nothing of it goes over the network.
    assert found["certificates"]["alone"] is True
