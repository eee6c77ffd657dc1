"""Storage: the states of its host, and what nginx serves of it on app hosts and on proxies."""

import pytest

from .minion import BUILD, SUITES, Host, certificates

SERVE = {
    "/media/": {"storage": "media", "cache": 60},
    "/invoices/": {"storage": "invoices", "internal": True},
}
APP = {
    "build": BUILD,
    "port": 8000,
    "domains": ["shop.example.com"],
    "attach": {"MEDIA_ROOT": {"storage": "media"}, "INVOICES": {"storage": "invoices"}},
    "site": {"serve": SERVE},
}
ONE = {"one": {"roles": ["app", "proxy", "storage"], "address": "10.0.0.1"}}
APART = {
    "app1": {"roles": ["app", "storage"], "address": "10.0.0.4"},
    "proxy1": {"roles": ["proxy"], "address": "10.0.0.6"},
}


def host_of(directory, minion_id, rows, suite="bookworm"):
    """Return a host of an inventory, with an app that attaches two storages."""
    host = Host(directory, minion_id, suite)
    host.declare("hosts.yaml", {name: row | {"environment": "dev"} for name, row in rows.items()})
    host.declare("common.sls", {"app": {"shop": APP}})
    host.declare("environments/dev.sls", {"ephemeral": True})
    host.declare(
        f"certificates/dev/{minion_id}.sls", {"certificates": certificates(minion_id, rows[minion_id]["address"])}
    )
    return host


def site(host):
    """Return nginx's file of the app's site, each run of blanks as one."""
    return " ".join(host.nginx("shop")["sites/shop.conf"].split())


@pytest.mark.parametrize("suite", SUITES)
def test_directories_come_before_the_release_that_has_them(tmp_path, suite):
    ids = [state["__id__"] for state in host_of(tmp_path, "one", ONE, suite).states()]
    assert len(set(ids)) == len(ids)
    order = ["app-user-shop", "storage-directory-media", "app-release-shop", "storage-retired"]
    assert sorted(order, key=ids.index) == order


def test_a_host_that_has_nothing_to_do_with_apps_gets_no_user_of_theirs(tmp_path):
    rows = {"one": {"roles": ["storage"], "address": "10.0.0.1"}}
    host = host_of(tmp_path, "one", rows)
    host.declare("common.sls", {"app": {"shop": APP | {"attach": {}, "site": {}}}})
    assert [state["__id__"] for state in host.states() if state["__id__"].startswith(("app-", "storage-"))] == [
        "storage-root",
        "storage-retired",
    ]


def test_the_app_host_serves_the_files_and_a_proxy_before_it_passes_requests_on(tmp_path):
    hosts = {}
    for name in APART:
        (tmp_path / name).mkdir()
        hosts[name] = site(host_of(tmp_path / name, name, APART))
    assert "alias" not in hosts["proxy1"]
    hidden = "if ($uri ~ '(?s)^/media/(.*/)?[.]') { return 404; } set $served_of_shop file;"
    assert hidden in hosts["app1"]
    assert "alias /srv/storage/media/files/;" in hosts["app1"]
    assert hosts["app1"].count("internal;") == 1
    assert "set $cache_of_shop 'public, max-age=60';" in hosts["app1"]


def test_files_of_a_build_are_looked_for_in_each_release_that_is_kept(tmp_path):
    host = host_of(tmp_path, "one", ONE)
    served = {"serve": {"/static/v1.0/": {"build": "dist/a"}}}
    host.declare("common.sls", {"app": {"shop": APP | {"attach": {}, "site": served, "keep_releases": 2}}})
    found = site(host)
    assert "if ($uri ~ '(?s)^/static/v1[.]0/(.*/)?[.](?!well-known/)') { return 404; } # What root has" in found
    assert "rewrite '^/static/v1[.]0/(.*)$' /$1 break; try_files /0/dist/a$uri /1/dist/a$uri =404;" in found
    assert "set $served_of_shop file;" not in found
    ids = [state["__id__"] for state in host.states()]
    order = ["app-build-shop", "app-served-shop", "app-release-shop"]
    assert sorted(order, key=ids.index) == order
