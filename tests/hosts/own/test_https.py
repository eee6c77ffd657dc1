"""HTTPS from outside: the placeholder certificate, ACME, certificates in the pillar, and the host's own authority.

One host of dev runs an app that needs no database. A second host runs pebble, an ACME authority for tests, and a DNS in
which each domain has the first host's address.
"""

import concurrent.futures
import contextlib
import datetime
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lab import Lab, bootstrapped, machine
from lab.pillar import declare
from saltern.tls import certificate as certificates
from tests.hosts.applied import apply, as_told, converged
from tests.hosts.client import Client
from tests.hosts.conftest import ROOT
from tests.hosts.load import Load
from tests.hosts.pebble import AUTHORITY, DAYS, PEBBLE, names_of, with_responder

pytestmark = pytest.mark.alike("trixie")

DOMAIN, SECOND, NOBODYS = "mirror.example.com", "www.mirror.example.com", "nowhere.mirror.example.com"
APP = {"port": 8300, "formation": {"web": 1}, "domains": [DOMAIN], "health": {"grace": 30}}
PEM = "/etc/ssl/saltern/sites/mirror.pem"
# What a change of domains or certificates reloads.
HTTP3 = {suite: {"nginx-http3"} if debian["http3"] else set() for suite, debian in machine.DEBIANS.items()}
RENEWAL = "/etc/letsencrypt/renewal/saltern-mirror.conf"


class World:
    """The host and the authority, as clients outside see them."""

    def __init__(self, lab, host, authority, directory):
        self.lab, self.host, self.authority, self.directory = lab, host, authority, directory
        self.session = requests.Session()
        self.session.trust_env = False

    def declare(self, **settings):
        declare(self.lab.tree / "pillar", "dev", settings)

    def tls(self, **settings):
        self.declare(nginx={"tls": settings})

    def file(self, name, text):
        """Return a file with a certificate, for clients to trust."""
        path = self.directory / f"{name}.pem"
        path.write_text(text)
        return str(path)

    def root(self):
        """Return a file with pebble's root certificate. pebble makes a new one at each start."""
        answer = self.session.get(f"https://{self.authority.address}:15000/roots/0", timeout=10, verify=self.api)
        return self.file("pebble", answer.text)

    @property
    def api(self):
        return self.file("api", self.authority.sh("cat /etc/pebble/cert.pem").stdout)

    def own(self):
        """Return a file with the host's own authority."""
        return self.file("own", self.host.sh("sed -n '/BEGIN CERT/,$p' /etc/ssl/saltern/authority.pem").stdout)

    def names(self, what, **record):
        """Change what the authority's DNS says."""
        answer = self.session.post(f"http://{self.authority.address}:8055/{what}", json=record, timeout=10)
        assert answer.status_code == 200

    def certificate(self, domain=DOMAIN):
        """Return the certificate that nginx serves, whoever issued it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection((self.host.address, 443), 10)
        with plain, context.wrap_socket(plain, server_hostname=domain) as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))

    def masters_pid(self):
        return self.host.sh("cat /run/nginx.pid").stdout

    def orders(self):
        """Return how many orders the authority has got."""
        return self.authority.sh("journalctl -u pebble --no-pager | grep -c 'POST /order-plz' || true").stdout


@pytest.fixture(scope="module")
def world(suite, tmp_path_factory):
    """The host, bootstrapped, and the authority, which does not run yet."""
    with Lab.temporary(f"https-{suite}") as lab:
        address = {name: str(lab.subnet[10 + n]) for n, name in enumerate(("dev", "authority"))}
        rows = {
            "dev": {"environment": "dev", "roles": ["app", "proxy"], "address": address["dev"]},
            "authority": {"environment": "staging", "roles": [], "address": address["authority"]},
        }
        (lab.tree / "pillar/hosts.yaml").write_text(yaml.safe_dump(rows))
        host = lab.boot("dev", suite, image_name=bootstrapped.ensure(suite)[0])
        authority = lab.boot("authority", suite)

        def prepare_authority():
            arguments = ("sh", "-c", AUTHORITY, "sh", authority.address, host.address)
            authority.run(*arguments, input=json.dumps({"pebble": PEBBLE}))

        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda work: work(), [prepare_authority, host.bootstrap]))
        lab.build(ROOT / "tests/apps/mirror", host.python)
        (lab.tree / "pillar/secrets/dev.sls").unlink()
        world = World(lab, host, authority, tmp_path_factory.mktemp("https"))
        directory = {"server": f"https://{authority.address}:14000/dir", "email": "ops@example.com"}
        world.declare(
            app={"mirror": APP, "faq": None, "tickets": None},
            nginx={
                "http3": machine.DEBIANS[suite]["http3"],
                "tls": {"source": "acme", "redirect": True, "acme": directory | {"agree_terms": True}},
            },
            base={"ca_certificates": {"authority": authority.sh("cat /etc/pebble/cert.pem").stdout}},
        )
        yield world


@pytest.fixture(scope="module")
def unreached(world):
    """The dry run and the first converge, while nobody answers at the authority's address."""
    return apply(world.host, "test=True").succeeded(), apply(world.host)


@pytest.fixture(scope="module")
def issued(world, unreached):
    """What changed when the authority answered."""
    world.authority.sh("systemctl start pebble")
    return converged(world.host)


def test_an_authority_that_is_not_reached_fails_one_state_and_https_has_a_placeholder(world, unreached):
    dry, real = unreached
    where = f"{world.authority.address}(:14000|/dir) is not reached: .*Connection refused"
    assert real.failed.keys() == {"nginx-acme-mirror"}
    assert re.fullmatch(f"mirror has no new certificate, nginx serves what it has: {where}", *real.failed.values())
    assert dry.changed == real.changed | {"nginx-acme-mirror"}
    assert world.certificate().issuer.rfc4514_string() == "CN=Saltern: no certificate yet"
    answer = Client(world.host.address, DOMAIN).get("/a?b=c", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{DOMAIN}/a?b=c")
    # The next run asks again at once, since the authority never got the first request.
    assert apply(world.host).failed == real.failed


def test_the_placeholder_serves_and_nobody_is_told_to_keep_to_it(world, unreached):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((world.host.address, 443), 10)
    with plain, context.wrap_socket(plain, server_hostname=DOMAIN) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 200 ")
    assert "strict-transport-security" not in answer.lower()


def test_the_next_converge_has_the_certificate(world, issued):
    assert issued == {"nginx-acme-mirror"}
    answer = Client(world.host.address, DOMAIN, world.root()).get("/request")
    assert answer.headers["Strict-Transport-Security"] == "max-age=86400"
    headers = dict(answer.json()["headers"])
    assert (headers["x-forwarded-proto"], headers["host"]) == ("https", DOMAIN)
    # A request for a challenge is not redirected to HTTPS; an unknown challenge gets 404.
    asked = Client(world.host.address, DOMAIN).get("/.well-known/acme-challenge/none", allow_redirects=False)
    assert asked.status_code == 404


def test_a_reload_of_nginx_loses_no_request_by_http3(world, issued):
    if not machine.DEBIANS[world.host.suite]["http3"]:
        world.declare(nginx={"http3": True})
        said = apply(world.host, "test=True").output
        world.declare(nginx={"http3": False})
        assert "nginx.http3: the nginx of Debian 12 has no HTTP/3" in said
        return

    def ask(path, domain=DOMAIN, told="/dev/null"):
        options = ("-o", told, "-w", "%{http_version} %{http_code}", "--resolve", f"{domain}:443:{world.host.address}")
        command = ("curl", "-sk", "--http3-only", "--max-time", "30", *options, f"https://{domain}{path}")
        return world.host.run(*command, check=False).stdout

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        under_way = [pool.submit(ask, path) for path in ["/slow?6", "/download?40"] * 3]
        time.sleep(2)
        world.host.sh("systemctl reload nginx")
        fresh = [pool.submit(ask, "/healthz") for _ in range(10)]
        assert [one.result() for one in under_way + fresh] == ["3 200"] * 16
    assert ask("/healthz", "unknown.invalid") == "0 000"
    # The app is told what it is told by HTTP/2.
    ask("/request", told="/root/asked.json")
    headers = dict(json.loads(world.host.sh("cat /root/asked.json").stdout)["headers"])
    expected = {"host": DOMAIN, "x-forwarded-proto": "https", "x-forwarded-for": world.host.address}
    assert {name: headers[name] for name in expected} == expected
    known = Client(world.host.address, DOMAIN, world.root()).get("/healthz")
    assert known.headers["Alt-Svc"] == 'h3=":443"; ma=3600'


def test_the_suite_of_make_verify_agrees(world, issued):
    command = [sys.executable, "-m", "verify", "-q"]
    command += [f"--hosts=podman://{world.host.name}", f"--tree={world.lab.tree}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    print(f"{world.host.suite}: {done.stdout.splitlines()[-1]}")


def test_certbots_own_timer_renews_and_no_request_fails(world, issued):
    before, pid = world.certificate().serial_number, world.masters_pid()
    # certbot renews a certificate that is near its end: this one counts as near now.
    world.host.sh(f"sed -i '/renew_before_expiry/d; 1i renew_before_expiry = {DAYS + 5} days' {RENEWAL}")
    load = Load(world.host, DOMAIN, requests=2_000, rate=100, scheme="https")
    assert world.certificate().serial_number == before
    world.host.sh("systemctl start certbot.service")
    # By then nginx has only been told to reload: its new workers may not have started yet.
    deadline = time.monotonic() + 20
    while world.certificate().serial_number == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # hey counts an idle connection that nginx closes as an error; see formulas/nginx/README.md.
    kept, fresh = load.finish()
    print(f"{world.host.suite}: {kept.requests + fresh.requests} requests while it was renewed")
    assert {*kept.statuses, *fresh.statuses} == {200}
    assert fresh.errors == {}
    assert world.masters_pid() == pid
    assert Client(world.host.address, DOMAIN, world.root()).get("/healthz").status_code == 200
    apply(world.host).changed_nothing()


def test_a_renewal_that_was_interrupted_is_put_right_by_the_next_converge(world, issued):
    text = world.host.sh(f"cat {PEM}").stdout
    world.host.sh("printf '#!/bin/sh\\nexit 1\\n' >/usr/local/lib/saltern/certificate-renewed")
    world.host.sh("certbot renew --force-renewal --no-random-sleep-on-renew -q", check=False)
    assert world.host.sh(f"cat {PEM}").stdout == text
    assert as_told(world.host) == HTTP3[world.host.suite] | {
        "nginx-acme-hook",
        "nginx-certificate-mirror",
        "nginx-config",
    }
    renewed = world.host.sh("cat /etc/letsencrypt/live/saltern-mirror/cert.pem").stdout
    assert world.certificate() == x509.load_pem_x509_certificate(renewed.encode())


def test_a_domain_that_cannot_be_proved_is_named_and_not_asked_for_again_at_once(world, issued):
    before = world.certificate()
    world.names("set-servfail", host=NOBODYS)
    world.declare(app={"mirror": {"domains": [DOMAIN, NOBODYS]}})
    applied = apply(world.host)
    assert applied.failed.keys() == {"nginx-acme-mirror"}
    said = applied.failed["nginx-acme-mirror"]
    assert said.startswith(f"mirror has no new certificate, nginx serves what it has: {NOBODYS}: ")
    assert DOMAIN not in said.replace(NOBODYS, "")
    orders = world.orders()
    for arguments in (["test=True"], []):
        again = apply(world.host, *arguments)
        assert re.match("mirror was refused, and is not asked for again before ..:.. UTC: ", *again.failed.values())
        assert again.changed == set()
    assert world.orders() == orders
    assert world.certificate() == before


def test_a_domain_that_comes_is_in_the_next_certificate(world, issued):
    world.declare(app={"mirror": {"domains": [DOMAIN, SECOND]}})
    assert converged(world.host) == {"nginx-config", "nginx-acme-mirror"} | HTTP3[world.host.suite]
    assert names_of(world.certificate(SECOND)) == {DOMAIN, SECOND}
    assert Client(world.host.address, SECOND, world.root()).get("/healthz").status_code == 200


def test_the_challenge_of_another_proxy_is_passed_on_to_it(world, issued):
    """The authority's host plays the other proxy, with Python's own web server."""
    path = "/.well-known/acme-challenge/elsewhere"
    world.authority.sh(f"mkdir -p /root/web{path[:-10]}; echo there >/root/web{path}")
    world.authority.sh("systemd-run -q --unit web python3 -m http.server --directory /root/web 80")
    inventory = world.lab.tree / "pillar/hosts.yaml"
    before = inventory.read_text()
    rows = yaml.safe_load(before)
    rows["authority"] |= {"environment": "dev", "roles": ["proxy"]}
    inventory.write_text(yaml.safe_dump(rows))
    apply(world.host, "nginx").succeeded()
    client = Client(world.host.address, DOMAIN)
    assert client.get(path).text == "there\n"
    # A request that was passed on once is not passed on again.
    assert client.get(path, headers={"X-Asked-By-Proxy": "1"}).status_code == 404
    assert client.get(path + "-not").status_code == 404
    inventory.write_text(before)
    apply(world.host, "nginx").succeeded()
    assert client.get(path).status_code == 404


def test_after_a_reboot_it_serves(world, issued):
    before = world.certificate()
    assert world.host.reboot() == "running"
    deadline = time.monotonic() + 60
    # Until this machine knows the host's new hardware address.
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((world.host.address, 443), 2):
            break
    assert world.certificate() == before
    apply(world.host).changed_nothing()


# --- Certificates of the pillar ---------------------------------------------------------------------------------------


NOW = datetime.datetime.now(datetime.UTC)
BOUGHT = certificates.new_authority("bought", NOW - datetime.timedelta(days=500))


def bought(*domains, days_ago=0):
    """Return an app's settings with a certificate that was bought."""
    issued = NOW - datetime.timedelta(days=days_ago)
    key, certificate = certificates.parted(certificates.issue_for(BOUGHT, domains[0], domains, issued))
    return {"certificate": certificate, "key": key}


GOOD = bought(f"*.{DOMAIN}", DOMAIN)
MISTAKES = {
    "a key of another": (
        {"certificate": GOOD["certificate"], "key": bought(DOMAIN)["key"]},
        "app.mirror.site.key: is that of another certificate; expected the one of app.<name>.site.certificate's first",
    ),
    "another domain": (
        bought(SECOND),
        f"app.mirror.site.certificate: is not for {DOMAIN}; expected one for all domains of the app",
    ),
    "expired": (
        bought(DOMAIN, SECOND, days_ago=400),
        "app.mirror.site.certificate: expired on ....-..-..; expected one that is valid",
    ),
    "half a key": (
        GOOD | {"key": GOOD["key"][:100]},
        "app.mirror.site.key: cannot be read; expected a private key in PEM, without a passphrase",
    ),
}


@pytest.mark.parametrize("given, message", MISTAKES.values(), ids=MISTAKES)
def test_a_certificate_that_cannot_serve_stops_the_run(given, message, world, issued):
    before = world.certificate()
    world.declare(app={"mirror": {"site": given}})
    for arguments in (["test=True"], []):
        applied = apply(world.host, *arguments)
        assert applied.states == {}
        (said,) = applied.mistakes
        assert re.fullmatch(message, said)
    world.declare(app={"mirror": {"site": dict.fromkeys(given)}})
    assert world.certificate() == before


def test_a_certificate_of_the_pillar_takes_the_place_of_acme(world, issued):
    world.declare(app={"mirror": {"site": GOOD}})
    changed = {"nginx-certificate-mirror", "nginx-config", "nginx-acme-retired"}
    assert as_told(world.host) == changed | HTTP3[world.host.suite]
    trusted = world.file("bought", certificates.parted(BOUGHT)[1])
    for domain in (DOMAIN, SECOND):
        assert Client(world.host.address, domain, trusted).get("/healthz").status_code == 200
    assert world.host.sh("ls /etc/letsencrypt/renewal /etc/letsencrypt/live | grep saltern || true").stdout == ""
    assert "PRIVATE KEY" not in world.host.sh("cat /var/log/salt/minion 2>/dev/null || true").stdout


def test_a_certificate_that_can_be_asked_about_is_stapled(world, issued):
    """OpenSSL's own OCSP responder runs on the authority's host."""
    key, own = certificates.parted(BOUGHT)
    private, certificate = with_responder(key, own, [DOMAIN, SECOND], f"http://{world.authority.address}:2560", NOW)
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    for name, text in (("ca.key", key), ("ca.pem", own)):
        world.authority.run("tee", f"/etc/pebble/{name}", input=text)
    world.authority.run(
        "tee", "/etc/pebble/index.txt", input=f"V\t{NOW:%y}1231235959Z\t\t1001\tunknown\t/CN={DOMAIN}\n"
    )
    world.authority.sh(
        "systemd-run -q --unit responder --property WorkingDirectory=/etc/pebble openssl ocsp -port 2560 "
        "-index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key"
    )
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    world.declare(app={"mirror": {"site": {"certificate": pem + own, "key": text.decode()}}})
    assert converged(world.host) == {"nginx-certificate-mirror", "nginx-config"} | HTTP3[world.host.suite]
    asked = f"openssl s_client -connect 127.0.0.1:443 -servername {DOMAIN} -status </dev/null 2>/dev/null"
    # nginx asks the responder after the first handshake, and staples its answer from then on.
    assert any("OCSP Response Status: successful" in world.host.sh(f"{asked}; sleep 1").stdout for _ in range(10))


# --- The host's own authority -----------------------------------------------------------------------------------------


def test_the_hosts_own_authority_needs_nobody(world, issued):
    world.declare(app={"mirror": {"site": dict.fromkeys(GOOD)}})
    world.tls(source="authority")
    changed = converged(world.host)
    assert {"nginx-certificate-mirror", "nginx-config"} <= changed
    for domain in (DOMAIN, SECOND):
        assert Client(world.host.address, domain, world.own()).get("/healthz").status_code == 200


def test_a_scanner_finds_mozillas_intermediate_configuration(world, issued, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    install = [tmp_path / "bin/pip", "install", "-q", "--require-hashes", "-r", ROOT / "requirements/scan.txt"]
    trusted = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    subprocess.run(install, check=True, capture_output=True, env={"PIP_CERT": trusted} | os.environ)
    command = [tmp_path / "bin/python", "-W", "ignore", "-m", "sslyze", "--mozilla_config", "intermediate"]
    command += ["--certinfo", "--certinfo_ca_file", world.own(), "--sni", DOMAIN, f"{world.host.address}:443"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(
        r"^ +(.* cipher suites?.*|\* .*|.*OK - .*|TLS_\S+ .*|.*VULNERABLE.*)$", done.stdout, re.MULTILINE
    )
    print("\n".join(found))
    assert "OK - Compliant." in done.stdout, done.stdout
    assert done.returncode == 0


def test_an_app_that_leaves_takes_its_keys_along(world, issued):
    world.declare(app={"mirror": None})
    apply(world.host).succeeded()
    apply(world.host).changed_nothing()
    assert world.host.sh("ls /etc/ssl/saltern/sites /etc/nginx/tls").stdout.split() == [
        "/etc/nginx/tls:",
        "/etc/ssl/saltern/sites:",
    ]
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized name"):
        world.certificate()
