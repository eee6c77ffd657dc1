"""Certificates: apps trust the services that they attach, and each service has a certificate of its own."""

import time
from urllib.parse import urlsplit

import pytest

from saltern import services
from saltern.attachments import parts

AUTHORITIES = "/etc/ssl/saltern/ca.pem"

# Connects as a client that verifies the authority and the address.
TLS = """
import json, socket, ssl, sys
host, port, greeting, answer = sys.argv[1], int(sys.argv[2]), *map(bytes.fromhex, sys.argv[3:])
context = ssl.create_default_context(cafile="/etc/ssl/saltern/ca.pem")
try:
    with socket.create_connection((host, port), 5) as plain:
        plain.sendall(greeting)
        assert not answer or plain.recv(len(answer)) == answer
        with context.wrap_socket(plain, server_hostname=host) as connection:
            seen = connection.getpeercert()
            print(json.dumps([ssl.cert_time_to_seconds(seen[key]) for key in ("notBefore", "notAfter")]))
except OSError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module", autouse=True)
def some_role(roles):
    if not {"app", *(service.role for service in services.resources())} & set(roles):
        pytest.skip("the host has no app and no service")


def listening(settings, roles):
    """Yield each service that listens with a certificate, and its port."""
    for service in certified(roles):
        for port in service.listeners(settings[service.kind]).values():
            yield service, port


def certified(roles):
    """Return the services of a host that have a certificate."""
    return [service for service in services.on(roles) if service.has_certificate]


def seen(python, service, address, port, **options):
    """Return the validity of a service's certificate, or why a client does not accept it."""
    return python(TLS, address, port, *(part.hex() for part in service.greeting), **options)


def assert_lasts(life):
    assert isinstance(life, list), life
    begun, ended = life
    # bin/issue-certificates, or the host itself, should have renewed it long ago.
    assert ended - time.time() > (ended - begun) / 5, f"it ends on {time.strftime('%Y-%m-%d', time.gmtime(ended))}"


def test_everybody_may_read_whom_the_apps_trust(host):
    file = host.file(AUTHORITIES)
    assert (file.user, file.mode) == ("root", 0o644)
    assert "PRIVATE" not in file.content_string


def test_a_key_can_be_read_only_by_its_service(host, roles):
    for service in certified(roles):
        file = host.file(f"/etc/ssl/saltern/{service.kind}.pem")
        assert (file.user in service.users, file.mode) == (True, 0o600)
    own = host.file("/etc/ssl/saltern/authority.pem")
    assert not own.exists or (own.user, own.mode) == ("root", 0o600)


def test_what_listens_has_a_certificate_for_this_host_that_lasts(python, roles, settings):
    addresses = ["127.0.0.1", "localhost"]
    for service, port in listening(settings, roles):
        for address in [*addresses, *settings[service.kind]["listen"]]:
            assert_lasts(seen(python, service, address, port))


def test_each_app_believes_what_it_attaches(apps, processes, python):
    for app, one in apps.items():
        its = next(iter(processes(app).values()))
        for variable, target in one["attach"].items():
            service = services.named(target)
            if service in services.resources() and service.has_certificate:
                url = urlsplit(parts.read(variable, target, its["environ"]))
                assert_lasts(seen(python, service, url.hostname, url.port, user=app))


def test_the_hosts_of_an_environment_trust_its_authority(host, settings):
    given = settings["certificates"]["authorities"]
    if given:
        # A host that is asked by its master answers without the last line break.
        found = host.file(AUTHORITIES).content_string.rstrip("\n")
        assert found == "\n".join(one.rstrip("\n") for one in given)
