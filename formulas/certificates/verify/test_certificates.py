"""Certificates: apps believe what they attach, and what listens has one that is its own."""

import time
from urllib.parse import urlsplit

import pytest

AUTHORITIES = "/etc/ssl/saltern/ca.pem"
SERVICES = {"database": "postgres", "cache": "redis"}

# What a client that verifies authority and address sees.
TLS = """
import json, socket, ssl, struct, sys
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile="/etc/ssl/saltern/ca.pem")
try:
    with socket.create_connection((host, port), 5) as plain:
        if kind == "postgres":
            plain.sendall(struct.pack("!ii", 8, 80877103))
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname=host) as connection:
            seen = connection.getpeercert()
            print(json.dumps([ssl.cert_time_to_seconds(seen[key]) for key in ("notBefore", "notAfter")]))
except OSError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module", autouse=True)
def some_role(roles):
    if not {"database", "cache", "app"} & set(roles):
        pytest.skip("the host has none of the roles database, cache and app")


def listening(settings, roles):
    """Yield what listens with a certificate: its kind and its port."""
    if "database" in roles:
        yield "postgres", 5432
    if "cache" in roles:
        for instance in settings["redis"]["instances"].values():
            yield "redis", instance["port"]


def assert_lasts(life):
    assert isinstance(life, list), life
    begun, ended = life
    # bin/issue-certificates, or the host itself, should have renewed it long ago.
    assert ended - time.time() > (ended - begun) / 5, f"it ends on {time.strftime('%Y-%m-%d', time.gmtime(ended))}"


def test_everybody_may_read_whom_the_apps_trust(host):
    file = host.file(AUTHORITIES)
    assert (file.user, file.mode) == ("root", 0o644)
    assert "PRIVATE" not in file.content_string


def test_a_key_is_its_services_alone(host, roles):
    for role, service in SERVICES.items():
        if role in roles:
            file = host.file(f"/etc/ssl/saltern/{service}.pem")
            assert (file.user, file.mode) == (service, 0o600)
    own = host.file("/etc/ssl/saltern/authority.pem")
    assert not own.exists or (own.user, own.mode) == ("root", 0o600)


def test_what_listens_has_a_certificate_for_this_host_that_lasts(python, roles, settings):
    addresses = ["127.0.0.1", "localhost"]
    for kind, port in listening(settings, roles):
        listen = settings[kind]["listen"]
        for address in [*addresses, *listen]:
            assert_lasts(python(TLS, kind, address, port))


def test_each_app_believes_what_it_attaches(apps, processes, python):
    for app, one in apps.items():
        its = next(iter(processes(app).values()))
        for variable, target in one["attach"].items():
            kind = next((kind for kind in ("postgres", "redis") if kind in target), None)
            if kind and "url" not in target:
                url = urlsplit(its["environ"][variable])
                assert_lasts(python(TLS, kind, url.hostname, url.port, user=app))


def test_the_hosts_of_an_environment_trust_its_authority(host, settings):
    given = settings["certificates"]["authorities"]
    if given:
        # A host that is asked by its master answers without the last line break.
        found = host.file(AUTHORITIES).content_string.rstrip("\n")
        assert found == "\n".join(one.rstrip("\n") for one in given)
