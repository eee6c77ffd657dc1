"""Who uses a resource: the releases that run on a host and have it in their config."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.attachments import users
from saltern.host import Host
from saltern.releases import process, store
from tests.unit.rows import host

ONE = {"one": host()}
POSTGRES = services.formulas()["postgres"]


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
def test_a_variable_is_known_as_the_url_of_a_resource(value, kind, name, expected):
    assert users.is_of(value, services.formulas()[kind], name, "10.0.0.1") is expected


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
def test_the_releases_that_have_a_resource_are_named(monkeypatch, test, planned, staying, expected):
    def plan(app):
        if planned is None:
            raise CommandExecutionError("no")
        return {"number": planned}

    monkeypatch.setattr(process, "releases", lambda: RUNNING)
    url = b"postgres://shop:pw@127.0.0.1/stock"
    monkeypatch.setattr(store, "record", lambda app, number: {})
    monkeypatch.setattr(store, "environ", lambda app, number: {"DATABASE_URL": url})
    on = Host.of({"release.plan": plan}, {"app": {"shop": {}}, "hosts": ONE}, {"test": test, "id": "one"})
    assert users.users(on, POSTGRES, "stock", staying) == expected
    assert users.users(on, POSTGRES, "other", staying) == []
    found = users.holders(on, POSTGRES, leaving=not test, staying=staying)
    assert found == ({"shop": expected} if expected else {})


def test_a_name_that_no_app_attaches_and_no_release_has_is_refused(monkeypatch, on_a_host):
    monkeypatch.setattr(process, "releases", lambda: [("shop", 2)])
    monkeypatch.setattr(store, "record", lambda app, number: {})
    monkeypatch.setattr(store, "environ", lambda app, number: {"A": b"postgres://shop:pw@127.0.0.1/left"})
    assert users.asked(on_a_host, POSTGRES, "shop") == []
    # No app attaches it any more.
    assert users.asked(on_a_host, POSTGRES, "left") == ["shop v2"]
    assert users.asked(on_a_host, services.formulas()["redis"], "8099") == []
    for kind, noun, known in (("postgres", "database", "shop"), ("redis", "Redis instance", "8099")):
        with pytest.raises(CommandExecutionError) as refused:
            users.asked(on_a_host, services.formulas()[kind], "nosuch")
        assert str(refused.value) == (
            f"nosuch: no app attaches a {noun} that URLs name so, and no release has one; expected one of {known}"
        )


def test_the_logins_of_running_releases_are_found(monkeypatch):
    environs = {
        ("shop", 2): {"DATABASE_URL": b"postgres://shop_0a0a0a:pw@10.0.0.2/stock", "MARK": b"x"},
        ("shop", 3): {
            "A": b"postgres://shop_0b0b0b:pw@10.0.0.2/stock",
            "B": b"postgres://shop_0b0b0b:pw@10.0.0.2/stock",
        },
        ("gone", 4): {"DATABASE_URL": b"postgres://gone:pw@10.0.0.2/gone", "REDIS_URL": b"redis://:pw@10.0.0.2/0"},
        ("parts", 1): {"PGHOST": b"10.0.0.2", "PGUSER": b"parts_0c0c0c", "PGDATABASE": b"stock"},
    }
    had = {"attached": {"PG": {"postgres": "stock", "as": "parts"}}}
    monkeypatch.setattr(store, "record", lambda app, number: had)
    monkeypatch.setattr(process, "releases", lambda: sorted(environs))
    monkeypatch.setattr(store, "environ", lambda app, number: environs[app, number])
    pillar = {"app": {"shop": {}, "parts": {}}, "hosts": {"": {"address": "10.0.0.2"}}}
    on = Host.of({"release.plan": lambda app: {"number": 3}}, pillar, {})
    assert users.users(on, POSTGRES, "stock") == ["parts v1", "shop v2", "shop v3"]
    expected = {"gone": ["gone v4"], "parts_0c0c0c": ["parts v1"]}
    expected |= {"shop_0a0a0a": ["shop v2"], "shop_0b0b0b": ["shop v3"]}
    assert users.holders(on, POSTGRES) == expected
    assert users.holders(on, POSTGRES, leaving=False) == {"shop_0b0b0b": ["shop v3"]}
