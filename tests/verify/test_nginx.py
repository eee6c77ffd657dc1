"""nginx: what clients outside the host get."""

import re

import pytest


@pytest.fixture(scope="module")
def sites(settings, roles):
    """The apps that the proxy serves, by name."""
    if not {"app", "proxy"} & set(roles):
        pytest.skip("the host has neither the role proxy nor the role app")
    return {app: settings["app"][app] for app in settings["nginx"]["sites"]}


def test_it_runs_now_and_at_every_boot(host, sites):
    assert host.service("nginx").is_running
    assert host.service("nginx").is_enabled


def test_its_configuration_is_valid(host, sites):
    assert host.run("nginx -t -q").stderr == ""


def test_every_domain_answers(outside, sites):
    for one in sites.values():
        for domain in one["domains"]:
            answer = outside("GET", domain, one["health"]["path"])
            assert answer.status_code == one["health"]["status"], domain


def test_every_answer_has_a_request_id_of_its_own(outside, sites):
    for one in sites.values():
        found = {outside("GET", one["domains"][0], one["health"]["path"]).headers["X-Request-ID"] for _ in range(3)}
        assert len(found) == 3
        assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in found)


@pytest.fixture(scope="module")
def proxy(outside, roles):
    """A function that asks the host's proxy, from this machine; the firewall lets nobody ask that of another host."""
    if "proxy" not in roles:
        pytest.skip("the host does not have the role proxy")
    return outside


def test_an_unknown_domain_is_told_so(proxy):
    answer = proxy("GET", "unknown.invalid", "/")
    assert (answer.status_code, answer.text) == (404, "No app has this domain.\n")


def test_no_version_is_told(proxy):
    assert proxy("GET", "unknown.invalid", "/").headers["Server"] == "nginx"


def test_a_body_over_the_limit_is_refused(outside, sites):
    units = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    for one in sites.values():
        number, unit = re.fullmatch("([0-9]+)([kmg]?)", one["site"]["body_size"]).groups()
        size = int(number) * units[unit]
        if 0 < size <= 64 << 20:
            answer = outside("PUT", one["domains"][0], one["health"]["path"], data=bytes(size + 1))
            assert answer.status_code == 413


def test_services_are_served_to_this_host_only(host, settings, sites, address):
    for app in settings["nginx"]["fronts"]:
        port = settings["app"][app]["port"]
        assert host.socket(f"tcp://127.0.0.1:{port}").is_listening, app
        assert not host.socket(f"tcp://0.0.0.0:{port}").is_listening, app
