"""A rollback gives an earlier release today's attachments."""

import pytest

from saltern import services
from saltern.attachments import config, earlier
from saltern.releases import store
from saltern.services import postgres_database, postgres_server, redis_connection

POSTGRES, REDIS = services.formulas()["postgres"], services.formulas()["redis"]


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
def test_what_a_release_of_before_has_attached_is_read_from_its_urls(value, expected):
    settings = {kind: {service.plural: {}} for kind, service in services.formulas().items()}
    settings["redis"]["instances"]["jobs"] = {"owner": "shop", "port": 8099}
    assert earlier.told(value, "shop", settings) == expected


@pytest.fixture
def going_back(on_a_host, monkeypatch):
    """A function that renews the attachments of v1 while v2 serves, given both releases' attachments and config."""

    def renewed(attached, environ, serving=None, ready=True, now=None):
        records = {1: {"attached": attached} if attached is not None else {}, 2: {"attached": serving or {}}}
        now = now or {name: f"{name} of v2" for name in serving or {}}
        environs = {1: environ, 2: {name: value.encode() for name, value in now.items()}}
        monkeypatch.setattr(store, "record", lambda app, number: records[number])
        monkeypatch.setattr(store, "environ", lambda app, number: environs[number])
        plan = ({} if ready else {"login": 1}, [])
        monkeypatch.setattr(postgres_database, "plan", lambda *database: plan)
        admits = [on_a_host.login(REDIS, "shop")] if ready else []
        monkeypatch.setattr(redis_connection, "admitted", lambda host, name, port: admits)
        on_a_host.pillar["postgres"]["databases"]["shop"]["connections"] = 97
        on_a_host.pillar["app"]["faq"] = {"port": 8100, "provides": {"v1": {"path": "/v1"}}}
        return earlier.renewed(on_a_host, "shop", 1, 2)

    return renewed


def test_a_rollback_gives_a_release_todays_attachments(going_back, on_a_host):
    today = config.environ(on_a_host, "shop")
    environ = {"DATABASE_URL": b"of v1", "JOBS": b"of v1", "FAQ": b"of v1", "MARK": b"of v1", "MAIL_URL": b"of v1"}
    attached = {
        "DATABASE_URL": {"postgres": "shop"},
        "JOBS": {"redis": "shop"},
        "FAQ": {"service": "faq", "version": "v1"},
    }
    # The serving release's values are taken, since they work, whatever the pillar says now.
    values, missing = going_back(attached, environ, {"DB": {"postgres": "shop"}})
    assert (values, missing) == ({"DATABASE_URL": "DB of v2", "JOBS": today["REDIS_URL"], "FAQ": today["FAQ_API"]}, [])
    # A variable that was taken out of its config by hand stays out.
    assert going_back(attached, {"JOBS": b"of v1"})[0].keys() == {"JOBS"}
    # A variable of its own config comes back unchanged, even if it is an attachment now.
    assert going_back({}, environ, {"DATABASE_URL": {"postgres": "shop"}}) == ({}, [])


def test_an_earlier_release_gets_todays_attachments_too(going_back, on_a_host):
    query = b"?sslrootcert=/etc/ssl/saltern/ca.pem"
    environ = {"DATABASE_URL": b"postgres://shop:old@127.0.0.1:5432/shop" + query, "FAQ_API": b"http://127.0.0.1:1/v1"}
    today = config.environ(on_a_host, "shop")
    assert going_back(None, environ) == ({name: today[name] for name in environ}, [])


PARTS = {
    "PGHOST": "127.0.0.1",
    "PGPORT": "5432",
    "PGUSER": "shop_0a0a0a",
    "PGPASSWORD": "old",
    "PGDATABASE": "shop",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/etc/ssl/saltern/ca.pem",
}


def test_a_rollback_gives_a_release_todays_parts(going_back, on_a_host):
    environ = {name: value.encode() for name, value in PARTS.items()}
    today, password = on_a_host.login(POSTGRES, "shop"), on_a_host.password(POSTGRES, "shop")
    expected = PARTS | {"PGUSER": today, "PGPASSWORD": password}
    attached = {"PG": {"postgres": "shop", "as": "parts"}}
    assert going_back(attached, environ) == (expected, [])
    # What was taken out of its config by hand stays out.
    del environ["PGSSLMODE"], expected["PGSSLMODE"]
    assert going_back(attached, environ) == (expected, [])


@pytest.mark.parametrize("is_parted", [False, True])
def test_what_serves_works_in_whatever_form(going_back, is_parted):
    url = "postgres://shop_1b1b1b:new@127.0.0.1:5432/shop?sslmode=verify-full&sslrootcert=/etc/ssl/saltern/ca.pem"
    of_parts = {name: value.encode() for name, value in PARTS.items()}
    target, in_parts = {"postgres": "shop"}, {"postgres": "shop", "as": "parts"}
    if is_parted:
        expected = PARTS | {"PGUSER": "shop_1b1b1b", "PGPASSWORD": "new"}
        assert going_back({"PG": in_parts}, of_parts, {"DB": target}, now={"DB": url}) == (expected, [])
    else:
        values, missing = going_back({"DB": target}, {"DB": b"of v1"}, {"PG": in_parts}, now=PARTS)
        assert (values, missing) == ({"DB": url.replace("1b1b1b:new", "0a0a0a:old")}, [])


GONE = {
    "another database": ({"postgres": "stock"}, "the database stock is no longer attached"),
    "a database that a URL replaces": ({"postgres": "old"}, "the database old is no longer attached"),
    "an instance": ({"redis": "jobs"}, "the Redis instance jobs is no longer attached"),
    "an app": ({"service": "mail", "version": "v1"}, "there is no app mail"),
    "a version": ({"service": "faq", "version": "v2"}, "faq no longer provides v2"),
    "a service of which Saltern has no class": ({"kafka": "jobs"}, "kafka is no service any more"),
}


def test_what_is_borrowed_is_another_attachment_than_ones_own(going_back, on_a_host, monkeypatch):
    borrowed = {"postgres": "shop", "access": "read"}
    assert going_back({"X": borrowed}, {"X": b"of v1"}) == (
        {},
        ["the database shop is no longer attached, which it has as X"],
    )
    attach = on_a_host.pillar["app"]["shop"]["attach"]
    attach["DATABASE_URL"] |= {"access": "read"}
    asked = []
    monkeypatch.setattr(postgres_server, "run", lambda statements: asked.append(statements[0]) or "1")
    values, missing = going_back({"X": borrowed}, {"X": b"of v1"})
    assert (list(values), missing) == (["X"], [])
    assert "rolname = 'shop_" in asked[0]
    monkeypatch.setattr(postgres_server, "run", lambda statements: "0")
    assert going_back({"X": borrowed}, {"X": b"of v1"})[1] == [
        "the database shop is not as declared yet, which it has as X"
    ]


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


def test_a_variable_that_leads_to_the_same_is_shared_whatever_its_password(on_a_host, monkeypatch):
    attached = {"DATABASE_URL": {"postgres": "shop"}, "REDIS_URL": {"redis": "jobs"}, "OLD_URL": {"postgres": "old"}}
    monkeypatch.setattr(store, "record", lambda app, number: {"attached": attached})
    monkeypatch.setattr(store, "environ", lambda app, number: dict.fromkeys(attached, b"x"))
    assert earlier.shared(on_a_host, "shop", 3) == ["DATABASE_URL"]
    on_a_host.pillar["app"]["shop"]["attach"]["PG"] = {"postgres": "shop", "as": "parts", "address": "x", "port": 1}
    attached["PG"] = {"postgres": "shop", "as": "parts"}
    monkeypatch.setattr(store, "environ", lambda app, number: dict.fromkeys({*attached, *PARTS}, b"x"))
    assert earlier.shared(on_a_host, "shop", 3) == ["DATABASE_URL", *sorted(PARTS)]
    # The same attachment in another form is another config.
    attached["PG"] = {"postgres": "shop"}
    assert earlier.shared(on_a_host, "shop", 3) == ["DATABASE_URL"]
