"""memcached: the states, files, firewall openings and pillar of its hosts."""

import json
import re

import pytest

from saltern import services

from .minion import BUILD, SUITES, Host, certificates

PASSWORD = "canary'\"\\<&>%$#{}!"
APPS = {
    app: {"build": BUILD, "port": port, "formation": {"web": 1}, "attach": {"CACHE_URL": {"memcached": app}}}
    for app, port in (("pages", 8000), ("stock", 8100))
}
SAID = {"instances": {"pages": {"password": PASSWORD, "memory": "1gb", "maxclients": 100}, "stock": {}}}
SAID["instances"]["stock"]["password"] = "another-0123456789"


def host_of(directory, minion_id, rows, suite="bookworm"):
    """Return a host of an inventory, with two apps that attach an instance each."""
    host = Host(directory, minion_id, suite)
    host.declare("hosts.yaml", {name: row | {"environment": "dev"} for name, row in rows.items()})
    host.declare("common.sls", {"app": APPS})
    host.declare("environments/dev.sls", {"ephemeral": True, "memcached": SAID})
    address = rows[minion_id]["address"]
    host.declare(f"certificates/dev/{minion_id}.sls", {"certificates": certificates(minion_id, address)})
    return host


ROWS = {
    "cache1": {"roles": ["memcached"], "address": "10.0.0.2"},
    "app1": {"roles": ["app"], "address": "10.0.0.4"},
    "idle1": {"roles": ["database", "cache", "proxy"], "address": "10.0.0.6"},
}
ONE = {"one": {"roles": ["memcached", "app", "proxy"], "address": "10.0.0.1"}}


@pytest.mark.parametrize("suite", SUITES)
def test_a_host_of_all_compiles_and_starts_its_processes_after_what_they_attach(tmp_path, suite):
    host = host_of(tmp_path, "one", ONE, suite)
    states = host.states()
    ids = [state["__id__"] for state in states]
    assert len(set(ids)) == len(ids)
    assert {f"memcached-served-{app}" for app in APPS} <= {*ids}
    for app in APPS:
        # The check of data of another app runs before any instance is stopped.
        claimed = services.formulas()["memcached"].claimed(app)["resource"]
        assert ids.index(claimed) < ids.index("memcached-replaced") < ids.index(f"memcached-served-{app}")
        assert ids.index(f"memcached-served-{app}") < ids.index(f"app-release-{app}") < ids.index("memcached-retired")
    assert "canary" not in json.dumps(states)
    unit = "path=salt://supervisor/files/supervisor.service.jinja"
    text = host.ask("slsutil.renderer", unit, "default_renderer=jinja")
    assert "After=memcached@pages.service memcached@stock.service" in text


def test_an_instance_has_its_declared_settings(tmp_path):
    host = host_of(tmp_path, "cache1", ROWS)
    path = "path=salt://memcached/files/instance.conf.jinja"
    text = host.ask("slsutil.renderer", path, "default_renderer=jinja", "instance=pages")
    assert "# The instance pages, which belongs to the app pages and listens at the port 8089." in text
    assert '"LIMITS=--port=8089 --conn-limit=300"' in text
    assert '"SIZES=--memory-limit=1024 --max-item-size=1m"' in text
    assert '"LISTEN=--listen=127.0.0.1,10.0.0.2"' in text
    assert "MemoryMax=1244M" in text
    assert "canary" not in text


def test_it_opens_to_the_app_hosts_what_it_serves(tmp_path):
    host = host_of(tmp_path, "cache1", ROWS)
    text = host.ask("slsutil.renderer", "path=salt://firewall/files/firewall.nft.jinja", "default_renderer=jinja")
    assert re.findall(r"^ +(.*) accept comment", text, re.MULTILINE) == [
        "tcp dport 22",
        "ip saddr { 10.0.0.4/32 } tcp dport 8089",
        "ip saddr { 10.0.0.4/32 } tcp dport 8189",
    ]


@pytest.mark.parametrize("name, is_told", [("cache1", True), ("app1", True), ("idle1", False)])
def test_a_host_is_told_its_password_where_it_needs_it(tmp_path, name, is_told):
    told = host_of(tmp_path, name, ROWS).ask("pillar.items", "unmask=True")
    assert "_errors" not in told
    assert ("another-0123456789" in json.dumps(told)) is is_told
