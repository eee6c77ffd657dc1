"""The inventory: what a host knows of the others, and mistakes in it."""

import pytest

from saltern import inventory
from saltern.paths import Roots


def row(environment="dev", roles=(), address="10.0.0.1"):
    return {"environment": environment, "roles": list(roles), "address": address}


@pytest.mark.parametrize(
    "content, expected",
    [(b"one: {roles: []}\n", {"one": {"roles": []}}), (b"", None), (b"one: [", None), (b"\xff", None), (None, None)],
)
def test_the_inventory_is_read_where_it_is_readable(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "hosts.yaml").write_bytes(content)
    roots = Roots([str(tmp_path / "none"), str(tmp_path)], [], str(tmp_path))
    assert inventory.read(roots) == expected


@pytest.mark.parametrize(
    "hosts, expected",
    [
        ({"one": row()}, "dev"),
        ({"one": row("staging")}, "staging"),
        ({"one": row("prod")}, ""),
        ({"one": row(["dev"])}, ""),
        ({"one": {}}, ""),
        ({"one": "dev"}, ""),
        ({"two": row()}, ""),
        (["one"], ""),
        ("one", ""),
        (None, ""),
    ],
)
def test_the_environment_is_one_that_there_is_or_none(tmp_path, hosts, expected):
    (tmp_path / "environments").mkdir()
    for name in ("dev.sls", "staging.sls", "prod", "Prod.sls"):
        (tmp_path / "environments" / name).touch()
    assert inventory.environment(hosts, "one", [str(tmp_path)]) == expected


@pytest.mark.parametrize(
    "hosts, expected",
    [
        ({"one": row(), "two": row(address="10.0.0.2")}, []),
        (
            {"two": row(), "three": row()},
            ["hosts.one: missing; expected a row for this host's id in pillar/hosts.yaml, which has three, two"],
        ),
        (
            {"one": row(), "two": row("production"), "three": row()},
            [
                "hosts.three.address: is also the address of one; expected one of its own",
                "hosts.two.address: is also the address of one; expected one of its own",
            ],
        ),
    ],
)
def test_a_host_is_there_and_has_an_address_of_its_own(hosts, expected):
    assert inventory.mistakes(hosts, "one") == expected


@pytest.mark.parametrize(
    "drained, expected",
    [
        ([], []),
        (["app1"], []),
        (
            ["app1", "app2"],
            [
                "hosts.app1.drain: is set on every app host of production; expected one that serves",
                "hosts.app2.drain: is set on every app host of production; expected one that serves",
            ],
        ),
        (["alone"], ["hosts.alone.drain: is set on every app host of staging; expected one that serves"]),
        (["proxy1"], ["hosts.proxy1.drain: does not have the role app; expected it on an app host alone"]),
    ],
)
def test_an_environment_is_left_an_app_host_that_is_not_drained(drained, expected):
    hosts = {
        "app1": row("production", ["app"], "10.0.0.1"),
        "app2": row("production", ["app", "proxy"], "10.0.0.2"),
        "proxy1": row("production", ["proxy"], "10.0.0.3"),
        "alone": row("staging", ["app"], "10.0.0.4"),
    }
    hosts = {name: one | {"drain": name in drained} for name, one in hosts.items()}
    assert inventory.mistakes(hosts, "app1") == expected


def test_peers_are_of_the_same_environment_and_sorted():
    hosts = {
        "b": row(roles=["app", "proxy"]),
        "a": row(roles=["app"]),
        "c": row(roles=["database"]),
        "d": row("production", roles=["app"]),
    }
    assert inventory.peers(hosts, "c", "app") == ["a", "b"]
    assert inventory.peers(hosts, "d", "app") == ["d"]
    assert inventory.peers(hosts, "d", "database") == []


@pytest.mark.parametrize(
    "roles, expected",
    [
        ([], []),
        (["proxy", "app", "cache", "database"], ["database", "cache", "app", "proxy"]),
        (["proxy", "cache"], ["cache", "proxy"]),
    ],
)
def test_a_host_is_told_its_own_row_and_what_apps_attach_comes_before_the_apps(roles, expected):
    hosts = {"one": row(roles=roles), "two": row(roles=["app"])}
    assert inventory.row(hosts, "one") == {"one": row(roles=expected)}


def test_the_schema_has_the_environments_and_the_roles_that_there_are(tmp_path, hosts_schema):
    for name in ("environments/qa.sls", "roles/queue.sls", "roles/app.sls", "roles/master.sls", "roles/settings.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    roots = Roots([str(tmp_path)], [str(tmp_path)], "")
    (host,) = inventory.schema(hosts_schema, roots)["patternProperties"].values()
    assert host["properties"]["environment"]["enum"] == ["qa"]
    assert host["properties"]["roles"]["items"]["enum"] == ["master", "queue", "app"]


def test_a_master_has_no_other_role():
    hosts = {"one": row(roles=["master"]), "two": row(roles=["master", "proxy"], address="10.0.0.2")}
    (message,) = inventory.mistakes(hosts, "one")
    assert message.startswith("hosts.two.roles: master beside others; expected it alone")
