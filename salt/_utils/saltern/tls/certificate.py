"""Certificates by which the hosts of an environment know each other: what an authority issues, and what is in it.

An operator's machine (``bin/issue-certificates``) and a host with an authority of its own make them in the same way.

``cryptography`` is imported where it is needed: a run with nothing to do need not wait for it.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_DAYS = 3650
DAYS = 365
# Parts of a certificate's life. With less than the first left, a new one is issued; with less than the second, the
# renewal was forgotten.
RENEWED = 1 / 3
FORGOTTEN = 1 / 5

# A certificate is valid from this long before it is issued, because hosts' clocks differ.
SKEW = datetime.timedelta(hours=1)


# --- What an authority issues -----------------------------------------------------------------------------------------


def new_authority(name: str, now: datetime.datetime, days: int = AUTHORITY_DAYS) -> str:
    """Make an authority.

    :param name: whose it is.
    :param now: the time.
    :param days: for how many days the authority is valid.
    :return: the authority's key and certificate in one text, in PEM.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    # While a new authority takes over, two of one environment are there: their names must differ.
    subject = _named(f"Saltern {name[:40]} {secrets.token_hex(4)}")
    certificate = (
        _builder(subject, subject, key.public_key(), now, now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pem(key) + _pem(certificate)


def issue(authority: str, minion_id: str, address: str, now: datetime.datetime, days: int = DAYS) -> str:
    """Issue a host's certificate.

    :param authority: key and certificate of the authority, in PEM.
    :param minion_id: the host's id.
    :param address: its IPv4 address.
    :param now: the time.
    :param days: for how many days the certificate is valid, at most as long as the authority.
    :return: a new key and its certificate in one text, in PEM.
    """
    return issue_for(authority, minion_id, names_of(minion_id, address), now, days, is_client=True)


def issue_for(
    authority: str,
    subject: str,
    names: Iterable[str],
    now: datetime.datetime,
    days: int = DAYS,
    is_client: bool = False,
) -> str:
    """Issue a certificate for some names; see ``issue``.

    :param subject: the certificate's common name, at most 64 characters.
    :param names: domains and addresses.
    :param is_client: whether etcd knows by it who asks, too.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signer, (issuer, *_) = read_key(authority), read(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    usages += [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH] if is_client else []
    until = min(now + datetime.timedelta(days=days), issuer.not_valid_after_utc)
    certificate = (
        _builder(_named(subject), issuer.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return _pem(key) + _pem(certificate)


def self_signed(name: str, domains: Iterable[str], now: datetime.datetime, until: datetime.datetime) -> str:
    """Make a certificate that no authority has issued.

    :param name: the certificate's common name.
    :param domains: what it is for.
    :param now: the time.
    :param until: when it expires.
    :return: a new key and its certificate in one text, in PEM.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key, subject = ec.generate_private_key(ec.SECP256R1()), _named(name)
    certificate = (
        _builder(subject, subject, key.public_key(), now, until)
        .add_extension(x509.SubjectAlternativeName([_general(domain) for domain in domains]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(key) + _pem(certificate)


def names_of(minion_id: str, address: str) -> list[str]:
    """Return the names and addresses by which a host is reached, from itself and from other hosts."""
    return ["localhost", minion_id, "127.0.0.1", "::1", address]


def _named(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(**given: bool) -> x509.KeyUsage:
    from cryptography import x509

    words = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    words += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**(dict.fromkeys(words, False) | given))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _pem(part: x509.Certificate | ec.EllipticCurvePrivateKey) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    if isinstance(part, x509.Certificate):
        return part.public_bytes(serialization.Encoding.PEM).decode()
    return part.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


# --- What is in a certificate -----------------------------------------------------------------------------------------


def parted(text: str) -> tuple[str, str]:
    """Split a text into its key and its certificate.

    :param text: what ``issue`` returns.
    :return: the key and the certificate, in PEM.
    """
    key, mark, certificate = text.partition("-----BEGIN CERTIFICATE-----")
    return key, mark + certificate


def joined(key: str, certificate: str) -> str:
    """Join a key and certificates to one text.

    :param key: in PEM.
    :param certificate: in PEM, followed by those between it and its authority.
    """
    return key.rstrip("\n") + "\n" + certificate.rstrip("\n") + "\n"


def until(certificate: str) -> datetime.datetime:
    """Return until when a certificate is valid."""
    return read(certificate)[0].not_valid_after_utc


def left(certificate: str, now: datetime.datetime) -> float:
    """Return which part of a certificate's life is left: 1 when it is new, 0 or less when it has expired.

    :param certificate: in PEM. Of several, the first counts.
    :param now: the time.
    """
    one = read(certificate)[0]
    return (one.not_valid_after_utc - now) / (one.not_valid_after_utc - one.not_valid_before_utc)


def moment(certificate: str, part: float) -> datetime.datetime:
    """Return when a part of a certificate's life is left; see ``left``.

    :param certificate: in PEM. Of several, the first counts.
    :param part: such as ``RENEWED``.
    """
    one = read(certificate)[0]
    return one.not_valid_after_utc - part * (one.not_valid_after_utc - one.not_valid_before_utc)


def amiss(
    key: str | None,
    certificate: str,
    authorities: Sequence[str],
    names: Iterable[str],
    now: datetime.datetime,
    is_client: bool = False,
) -> dict[str, str]:
    """Say what is wrong with a host's certificate.

    :param key: in PEM, or ``None`` where nobody here can read it.
    :param certificate: in PEM.
    :param authorities: certificates in PEM; one of them must have issued it.
    :param names: names and addresses by which the host is reached.
    :param now: the time.
    :param is_client: whether etcd must know by it who asks.
    :return: a mapping of ``key``, ``certificate`` or ``authorities`` to what is wrong there.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    found: dict[str, str] = {}
    issuers: list[x509.Certificate] = []
    for index, text in enumerate(authorities):
        try:
            issuers += read(text)
        except ValueError:
            found[f"authorities[{index}]"] = "cannot be read"
    try:
        (one, *_) = read(certificate)
        given = set(map(str, _alternatives(one)))
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return found | {"certificate": "cannot be read"}
    if key is not None:
        try:
            if read_key(key).public_key() != one.public_key():
                found["key"] = "is that of another certificate"
        except (ValueError, TypeError, UnsupportedAlgorithm):
            found["key"] = "cannot be read"
    if one.not_valid_after_utc <= now:
        found["certificate"] = f"expired on {one.not_valid_after_utc:%Y-%m-%d}"
    elif lacking := [name for name in names if name not in given]:
        found["certificate"] = f"is not for {', '.join(lacking)}"
    elif is_client and not _may_ask(one):
        found["certificate"] = "does not say that its host may ask etcd (clientAuth)"
    for issuer in issuers:
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            one.verify_directly_issued_by(issuer)
            if issuer.not_valid_after_utc <= now:
                found.setdefault("authorities", f"expired on {issuer.not_valid_after_utc:%Y-%m-%d}")
            return found
    return found if "certificate" in found else found | {"certificate": "was issued by none of the authorities"}


def is_pair(text: str | None) -> bool:
    """Tell whether a text is a key and its certificate.

    :param text: what a file says, ``None`` where there is none.
    """
    try:
        return bool(text) and bool(read_key(text or "").public_key() == read(text or "")[0].public_key())
    except Exception:
        # Whatever the text is, the library has an error of its own for it.
        return False


def domains_of(certificate: x509.Certificate) -> list[str]:
    """Return the domains that a certificate is for, none where it does not say them."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return []
    return names.get_values_for_type(x509.DNSName)


def responder_of(certificate: x509.Certificate) -> str | None:
    """Return the address at which the authority tells whether a certificate was revoked (OCSP), or ``None``."""
    from cryptography import x509

    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    is_ocsp = (one for one in access if one.access_method == x509.oid.AuthorityInformationAccessOID.OCSP)
    return next((one.access_location.value for one in is_ocsp), None)


def _may_ask(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is for clients, too. One that does not say what it is for is for all."""
    from cryptography import x509

    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH in usages


def _alternatives(certificate: x509.Certificate) -> list[object]:
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)]


def read(text: str) -> list[x509.Certificate]:
    """Read certificates.

    :param text: in PEM; what is no certificate in it, such as a key, does not count.
    :raises ValueError: when there is none, or one cannot be read.
    """
    from cryptography import x509

    return x509.load_pem_x509_certificates(text.encode())


def read_key(text: str) -> Any:
    """Read a private key.

    :param text: in PEM, without a passphrase; certificates behind it do not count.
    :raises ValueError: when there is none, or it cannot be read; the library has further errors of its own.
    """
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(text.encode(), None)


def now() -> datetime.datetime:
    """Return this moment."""
    return datetime.datetime.now(datetime.UTC)
