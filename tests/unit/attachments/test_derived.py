"""What is derived from the attachments of all apps."""

import copy
import json

import pytest

from saltern import firewall
from saltern.attachments.derived import attached, passwords
from tests.unit.attachments.declared import BOTH, ONE, SPLIT, STOCK, app
from tests.unit.rows import ALL, host

PASSWORD = "correct-horse-battery"


def test_an_app_may_have_several_databases_and_redis_instances(derived):
    attach = {"A": {"postgres": "shop"}, "B": {"postgres": "stock"}, "C": {"redis": "jobs"}, "D": {"redis": "pages"}}
    instances = {"pages": {"offset": 97, "maxmemory_policy": "allkeys-lru"}}
    found, mistakes = derived({"shop": app(attach=attach)}, redis={"instances": instances})
    assert mistakes == []
    assert {name: one["connections"] for name, one in found["postgres"]["databases"].items()} == {
        "shop": 48,
        "stock": 48,
    }
    assert {name: (one["owner"], one["port"]) for name, one in found["redis"]["instances"].items()} == {
        "jobs": ("shop", 8099),
        "pages": ("shop", 8097),
    }
    assert found["app"]["shop"]["attach"]["D"]["port"] == 8097


def test_a_borrower_gets_the_address_and_the_owner_keeps_the_resource(derived):
    borrowed = {"X": {"postgres": "stock", "access": "read"}, "Y": {"redis": "jobs", "access": "whole", "as": "parts"}}
    apps = {"shop": app(attach=STOCK), "a": app(8100, attach=borrowed), "b": app(8200)}
    databases = {"stock": {"share": {"a": "read", "b": "whole"}}}
    found, mistakes = derived(
        apps, postgres={"databases": databases}, redis={"instances": {"jobs": {"share": {"a": "whole"}}}}
    )
    assert mistakes == []
    stock, jobs = found["postgres"]["databases"]["stock"], found["redis"]["instances"]["jobs"]
    # An app that may attach it and does not has no login.
    assert (stock["owner"], stock["borrowers"], jobs["owner"]) == ("shop", {"a": "read"}, "shop")
    assert jobs["borrowers"] == {"a": "whole"}
    attach = found["app"]["a"]["attach"]
    assert (attach["X"]["port"], attach["Y"]["port"]) == (5432, 8099)
    assert json.loads(json.dumps(found)) == found


def test_an_app_may_read_its_own_database_by_a_login_that_does_nothing_else(derived):
    attach = STOCK | {"REPORTS_URL": {"postgres": "stock", "as": "reader"}}
    found, mistakes = derived({"shop": app(attach=attach)})
    assert mistakes == []
    stock = found["postgres"]["databases"]["stock"]
    assert (stock["owner"], stock["borrowers"]) == ("shop", {"shop": "read"})
    reports = found["app"]["shop"]["attach"]["REPORTS_URL"]
    assert (reports["access"], reports["port"]) == ("read", 5432)
    # A URL takes the place of the login.
    attach["REPORTS_URL"] |= {"url": "postgres://replica.example.com/stock"}
    found, mistakes = derived({"shop": app(attach=attach)})
    assert (mistakes, "borrowers" in found["postgres"]["databases"]["stock"]) == ([], False)


def test_each_database_has_its_share_of_the_connections(derived):
    apps = {name: app(8000 + 100 * n, attach={"X": {"postgres": name}}) for n, name in enumerate("abc")}
    found = derived(copy.deepcopy(apps))[0]["postgres"]["databases"]
    assert {name: one["connections"] for name, one in found.items()} == {"a": 32, "b": 32, "c": 32}
    found = derived(apps, postgres={"databases": {"b": {"connections": 50}}})[0]["postgres"]["databases"]
    assert {name: one["connections"] for name, one in found.items()} == {"a": 23, "b": 50, "c": 23}


def test_a_longest_value_is_accepted(derived):
    assert derived({"shop": app(config={"X": "v" * (131071 - len("X="))})})[1] == []


@pytest.mark.parametrize(
    "minion_id, database, cache",
    [
        ("db", "127.0.0.1", "10.0.0.3"),
        ("cache", "10.0.0.2", "127.0.0.1"),
        ("web1", "10.0.0.2", "10.0.0.3"),
    ],
)
def test_a_resource_is_reached_at_the_host_that_has_its_role(derived, minion_id, database, cache):
    given_passwords = {
        "postgres": {"databases": {"shop": {"password": PASSWORD}}},
        "redis": {"instances": {"shop": {"password": PASSWORD}}},
    }
    found, mistakes = derived(copy.deepcopy(BOTH), SPLIT, minion_id, **given_passwords)
    assert mistakes == []
    assert found["app"]["shop"]["attach"] == {
        "A": {"postgres": "shop", "address": database, "port": 5432},
        "B": {"redis": "shop", "address": cache, "port": 8099},
    }
    of_both = {"password": PASSWORD, "owner": "shop", "share": {}}
    assert found["postgres"]["databases"] == {"shop": of_both | {"connections": 97}}
    assert found["redis"]["instances"]["shop"] == of_both | {"port": 8099}


REACHED = {
    "one host alone": (ONE, "one", [], ["127.0.0.1/32", "::1/128"], True),
    "the database's": (SPLIT, "db", ["10.0.0.2"], ["10.0.0.4/32", "10.0.0.5/32"], False),
    "the cache's": (SPLIT, "cache", ["10.0.0.3"], ["10.0.0.4/32", "10.0.0.5/32"], False),
    "an app host": (SPLIT, "web1", ["10.0.0.4"], ["127.0.0.1/32", "::1/128", "10.0.0.5/32"], False),
    "a proxy": (SPLIT, "front", ["10.0.0.6"], ["10.0.0.4/32", "10.0.0.5/32"], True),
    "another environment's": (SPLIT, "elsewhere", [], ["127.0.0.1/32", "::1/128"], True),
}


@pytest.mark.parametrize("hosts, minion_id, listen, clients, alone", REACHED.values(), ids=REACHED)
def test_a_resource_is_open_to_the_app_hosts_of_its_environment(derived, hosts, minion_id, listen, clients, alone):
    given_passwords = {
        "postgres": {"databases": {"shop": {"password": PASSWORD}}},
        "redis": {"instances": {"shop": {"password": PASSWORD}}},
    }
    found, mistakes = derived(copy.deepcopy(BOTH), hosts, minion_id, **given_passwords)
    assert mistakes == []
    assert (found["postgres"]["listen"], found["redis"]["listen"]) == (listen, listen)
    assert found["postgres"]["clients"] == clients
    assert found["certificates"]["alone"] is alone


def test_a_host_that_shares_nothing_needs_no_certificate_of_others(derived):
    found, mistakes = derived({"shop": app(attach={"X": {"url": "postgres://db.example.com/shop"}})}, SPLIT, "web1")
    assert (mistakes, found["certificates"]["alone"]) == ([], True)


def test_a_resource_with_a_url_is_somebody_elses(derived):
    attach = {"X": {"postgres": "shop", "url": "postgres://db.example.com/shop"}}
    # The settings of the resource that the URL replaces may stay.
    found, mistakes = derived({"shop": app(attach=attach)}, postgres={"databases": {"shop": {"password": PASSWORD}}})
    assert mistakes == []
    assert found["postgres"]["databases"]["shop"]["owner"] is None
    assert found["certificates"]["alone"] is True


def test_one_database_may_be_attached_by_two_variables(derived):
    assert derived({"shop": app(attach={"A": {"postgres": "shop"}, "B": {"postgres": "shop"}})})[1] == []


@pytest.mark.parametrize("minion_id, address", [("web1", "127.0.0.1"), ("db", "10.0.0.4")])
def test_a_service_is_reached_at_an_app_host(derived, minion_id, address):
    apps = {
        "shop": app(attach={"FAQ": {"service": "faq", "version": "v2"}}),
        "faq": app(8100, provides={"v2": {"path": "/api/v2"}}),
    }
    found, mistakes = derived(apps, SPLIT, minion_id)
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
def test_nginx_serves_what_has_web_processes(derived, one, roles, site, front):
    found, mistakes = derived({"shop": one}, {"one": host(*roles)})
    assert mistakes == []
    served = {"domains": one.get("domains", []), "port": 8000, "body_size": "10m", "timeout": 60, "extra": ""}
    served |= {"buffering": True, "serve": [], "health": "/healthz", "errors": []}
    served |= {"redirects": {"domains": [], "paths": {}}, "routes": [], "others": []}
    served |= {"away": [], "can_be_away": False}
    open_ = {"counts": False, "asks": False, "networks": {}, "others": "open", "paths": ["/"], "exempt": []}
    none = {"counts": False, "rate": "", "burst": 1, "connections": 0, "wait": 1, "networks": [], "paths": []}
    served["matches"] = [f"is {domain}" for domain in served["domains"]]
    served |= {"access": open_, "limits": none}
    served |= {"path": "/", "guests": [], "closed": "", "open": "", "outside": "", "by_path": {}}
    served["told"] = ["Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"]
    headers = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "strict-origin-when-cross-origin"}
    headers |= {"X-Frame-Options": "SAMEORIGIN", "Content-Security-Policy": "", "Permissions-Policy": ""}
    served["headers"] = headers
    assert found["nginx"]["sites"] == ({"shop": served} if site else {})
    assert found["nginx"]["fronts"] == ({"shop": served} if front else {})
    assert found["nginx"]["idle"] == ([] if site or front else one["domains"])


def test_settings_stay_data_that_salt_can_hand_on(derived):
    found, _ = derived(copy.deepcopy(BOTH))
    assert json.loads(json.dumps(found)) == found


def test_who_attaches_a_service_is_told_without_what_a_url_replaces():
    faq, api = {"service": "faq", "version": "v1"}, {"service": "faq", "url": "https://faq.example.com"}
    apps = {"shop": app(attach={"B": faq, "A": api, "C": {"postgres": "shop"}}), "faq": app(8100)}
    assert list(attached(apps, "service")) == [("shop", "B", faq)]
    assert list(attached(apps, "postgres")) == [("shop", "C", {"postgres": "shop"})]


def test_the_passwords_of_what_is_attached_are_settings_of_each_service():
    attach = {"A": {"postgres": "shop"}, "B": {"redis": "jobs", "url": "x"}, "C": {"service": "faq"}, "D": 7}
    attach |= {"E": {"redis": ["mistake"]}}
    assert list(passwords(attach)) == [
        ("postgres", "databases", "shop", "password"),
        ("redis", "instances", "jobs", "password"),
    ]


def test_an_instance_that_a_url_replaces_needs_no_opening(derived):
    attach = {"X": {"redis": "shop", "url": "rediss://cache.example.com/0"}}
    given = {"instances": {"shop": {"password": PASSWORD}}}
    settings, mistakes = derived({"shop": app(attach=attach)}, SPLIT, "cache", redis=given)
    assert mistakes == []
    assert [one["name"] for one in firewall.openings(settings, SPLIT, "cache")] == ["ssh"]
