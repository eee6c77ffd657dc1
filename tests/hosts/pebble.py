"""pebble, an ACME authority for tests, on a host of its own, which also answers as its DNS."""

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Days for which pebble's certificates are valid.
DAYS = 20
AUTHORITY = """
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update </dev/null >/dev/null
apt-get -qq install --no-install-recommends pebble openssl python3 </dev/null >/dev/null 2>&1
mkdir /etc/pebble
cd /etc/pebble
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=authority \
    -addext "subjectAltName=IP:$1" -addext keyUsage=critical,digitalSignature,keyCertSign \
    -keyout key.pem -out cert.pem 2>/dev/null
cat >config.json
unit() { name=$1; shift; printf '[Service]\\n%s\\nExecStart=%s\\n' "$ENVIRON" "$*" >/etc/systemd/system/$name.service; }
ENVIRON= unit names /usr/bin/pebble-challtestsrv -defaultIPv4 $2 -defaultIPv6 '""' -http01 '""' -https01 '""' \
    -tlsalpn01 '""'
ENVIRON='Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 PEBBLE_AUTHZREUSE=0' \
    unit pebble /usr/bin/pebble -config /etc/pebble/config.json -dnsserver 127.0.0.1:8053
systemctl daemon-reload
systemctl start names
"""
PEBBLE = {
    "listenAddress": "0.0.0.0:14000",
    "managementListenAddress": "0.0.0.0:15000",
    "certificate": "/etc/pebble/cert.pem",
    "privateKey": "/etc/pebble/key.pem",
    "httpPort": 80,
    "tlsPort": 443,
    "ocspResponderURL": "",
    "externalAccountBindingRequired": False,
    "certificateValidityPeriod": DAYS * 86400,
}


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the domains that a certificate is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName)}


def with_responder(
    key: str, authority: str, domains: Sequence[str], responder: str, now: datetime.datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Issue a certificate, of serial number 0x1001, that names an OCSP responder; return its key and itself.

    :param key: the authority's private key, PEM.
    :param authority: the authority's certificate, PEM.
    :param domains: what the certificate is for; the first is its subject.
    :param responder: the responder's URL.
    :param now: the time; the certificate is valid from a day before it.
    """
    issuer = x509.load_pem_x509_certificate(authority.encode())
    private = ec.generate_private_key(ec.SECP256R1())
    where = x509.UniformResourceIdentifier(responder)
    ocsp = x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, where)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, domains[0])]))
        .issuer_name(issuer.subject)
        .public_key(private.public_key())
        .serial_number(0x1001)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains]), critical=False)
        .add_extension(x509.AuthorityInformationAccess([ocsp]), critical=False)
        .sign(serialization.load_pem_private_key(key.encode(), None), hashes.SHA256())
    )
    return private, certificate
