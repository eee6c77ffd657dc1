"""HTTPS: each domain has its declared certificate, and no old TLS version is offered."""

import datetime
import socket
import ssl
import warnings

import pytest
from cryptography import x509

from verify import declared

OWN = "/etc/ssl/saltern/authority.pem"
# A certificate that renews by itself should have been renewed long before this.
FORGOTTEN = 1 / 5


@pytest.fixture(scope="module", autouse=True)
def a_proxy(settings, roles):
    if "proxy" not in roles or not settings["nginx"]["sites"]:
        pytest.skip("the host is not the proxy of any app")


@pytest.fixture(scope="module")
def domains(settings):
    """The apps by domain."""
    sites = settings["nginx"]["sites"].items()
    return {domain: app for app, one in sites for domain in declared.in_full(one["domains"])}


@pytest.fixture(scope="module")
def source(settings):
    """A function that returns the declared source of an app's certificate."""
    return lambda app: (
        "pillar" if settings["app"][app]["site"].get("certificate") else settings["nginx"]["tls"]["source"]
    )


@pytest.fixture(scope="module")
def handshake(address, ports):
    """A function that connects by TLS; it returns the certificate, the TLS version and the protocol chosen by ALPN."""

    def connect(domain, **limits):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        # The client accepts every cipher, so that only the host refuses.
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for name, value in limits.items():
                setattr(context, name, value)
        plain = socket.create_connection((address, int(ports["https"])), 10)
        with plain, context.wrap_socket(plain, server_hostname=domain) as connection:
            certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
            return certificate, connection.version(), connection.selected_alpn_protocol()

    return connect


def names(certificate):
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def test_every_domain_answers(outside, settings, domains, healthy):
    for domain, app in domains.items():
        health = settings["app"][app]["health"]
        assert outside("GET", domain, health["path"], scheme="https").status_code in healthy(app), domain


def test_every_domain_has_a_certificate_that_covers_it_and_lasts(handshake, domains, source):
    now = datetime.datetime.now(datetime.UTC)
    for domain, app in domains.items():
        certificate, _, _ = handshake(domain)
        assert {domain, "*." + domain.partition(".")[2]} & {*names(certificate)}, domain
        begun, ended = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        assert begun <= now
        least = datetime.timedelta(0) if source(app) == "pillar" else (ended - begun) * FORGOTTEN
        assert ended - now > least, f"{domain}: it ends on {ended:%Y-%m-%d}"


def test_every_certificate_is_from_where_is_declared(host, handshake, settings, domains, source):
    for domain, app in domains.items():
        certificate, _, _ = handshake(domain)
        if source(app) == "authority":
            command = f"sed -n '/^-----BEGIN CERTIFICATE/,$p' {OWN}"
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(host.check_output(command).encode()))
            continue
        # A placeholder fits neither.
        text = settings["app"][app]["site"].get("certificate") or host.check_output(
            f"cat /etc/letsencrypt/live/saltern-{app}/fullchain.pem"
        )
        assert certificate == x509.load_pem_x509_certificates(text.encode())[0], domain


def test_every_domain_that_leads_to_another_has_the_certificate_too(handshake, settings):
    for one in settings["nginx"]["sites"].values():
        for domain in one["redirects"]["domains"]:
            certificate, _, _ = handshake(domain)
            assert {domain, "*." + domain.partition(".")[2]} & {*names(certificate)}, domain


def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(handshake, domains):
    domain = min(domains)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        _, spoken, over = handshake(domain, minimum_version=version, maximum_version=version)
        assert (spoken.replace(".", "_"), over) == (version.name, "h2")
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
            handshake(domain, minimum_version=version, maximum_version=version)


def test_http3_is_spoken_where_it_is_declared(host, outside, settings, domains):
    is_spoken = settings["nginx"]["http3"]
    assert host.socket("udp://0.0.0.0:443").is_listening == is_spoken
    assert host.service("saltern-http3").is_running == is_spoken
    # Where it was never asked for there is no such unit.
    assert (host.run("systemctl is-enabled saltern-http3").stdout.strip() == "enabled") == is_spoken
    # A load balancer of the site's own may speak for the clients of this suite.
    told = {'h3=":443"; ma=3600', None} if is_spoken else {None}
    for domain, app in domains.items():
        answer = outside("GET", domain, settings["app"][app]["health"]["path"], scheme="https")
        assert answer.headers.get("Alt-Svc") in told, domain


def test_an_unknown_domain_has_no_certificate(handshake):
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized name"):
        handshake("unknown.invalid")


def test_http_leads_to_https_where_it_is_declared(outside, settings, domains, healthy):
    for domain, app in domains.items():
        health = settings["app"][app]["health"]
        answer = outside("GET", domain, f"{health['path']}?a=b", scheme="http")
        if settings["nginx"]["tls"]["redirect"]:
            expected = (308, f"https://{domain}{health['path']}?a=b")
            assert (answer.status_code, answer.headers.get("Location")) == expected
        else:
            assert answer.status_code in healthy(app)
        assert "Strict-Transport-Security" not in answer.headers


def test_browsers_are_told_to_keep_to_https_as_is_declared(outside, settings, domains):
    tls = settings["nginx"]["tls"]
    for domain, app in domains.items():
        said = outside("GET", domain, settings["app"][app]["health"]["path"], scheme="https").headers.get(
            "Strict-Transport-Security"
        )
        if not (tls["redirect"] and tls["hsts"]["max_age"]):
            assert said is None
            continue
        words = {f"max-age={tls['hsts']['max_age']}"}
        words |= {"includeSubDomains"} if tls["hsts"]["include_subdomains"] else set()
        words |= {"preload"} if tls["hsts"]["preload"] else set()
        assert {*said.split("; ")} == words


def test_a_key_can_be_read_only_by_root(host, settings):
    assert (host.file("/etc/ssl/saltern/sites").user, host.file("/etc/ssl/saltern/sites").mode) == ("root", 0o700)
    for app in settings["nginx"]["sites"]:
        file = host.file(f"/etc/ssl/saltern/sites/{app}.pem")
        assert (file.user, file.mode) == ("root", 0o600)


def test_certbot_renews_twice_a_day_where_it_issues(host, settings, source):
    if any(source(app) == "acme" for app in settings["nginx"]["sites"]):
        assert host.service("certbot.timer").is_running
        assert host.service("certbot.timer").is_enabled
        account = host.file("/etc/letsencrypt/accounts")
        assert (account.user, account.mode) == ("root", 0o700)
