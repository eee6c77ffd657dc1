"""Certificates by which the hosts of an environment know each other.

Where several hosts are involved, the pillar says them, as ``bin/issue-certificates`` writes it. A host that is alone
with its apps and with what they attach has an authority of its own, and issues and renews what it needs by itself.
Both are made here, in the same way. Certificates are compared by what is in them, so that a test needs no host.

``cryptography`` is imported where it is needed: a run with nothing to do need not wait for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import pwd
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.system import files

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

DIRECTORY = "/etc/ssl/saltern"
# The key and the certificate of a host's own authority.
OWN = f"{DIRECTORY}/authority.pem"

AUTHORITY_DAYS = 3650
DAYS = 365
# Of its life: what is left when a certificate is issued anew, and when that has been forgotten.
RENEWED = 1 / 3
FORGOTTEN = 1 / 5

# Clocks differ.
SKEW = datetime.timedelta(hours=1)


# --- What is issued, on an operator's machine as on a host ------------------------------------------------------------


def new_authority(name: str, now: datetime.datetime, days: int = AUTHORITY_DAYS) -> str:
    """Make an authority.

    :param name: whose it is.
    :param now: the time.
    :param days: how long it is valid.
    :return: its key and its certificate in one text, in PEM.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    # Two of one environment, while one takes over from the other, are told apart.
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
    :param days: how long it is valid; no longer than the authority is.
    :return: a new key and its certificate in one text, in PEM.
    """
    return issue_for(authority, minion_id, names_of(minion_id, address), now, days)


def issue_for(authority: str, subject: str, names: Iterable[str], now: datetime.datetime, days: int = DAYS) -> str:
    """Issue a certificate for some names; see ``issue``.

    :param subject: its common name, at most 64 characters.
    :param names: domains and addresses.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signer, (issuer, *_) = _key(authority), _certificates(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + datetime.timedelta(days=days), issuer.not_valid_after_utc)
    certificate = (
        _builder(_named(subject), issuer.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return _pem(key) + _pem(certificate)


def names_of(minion_id: str, address: str) -> list[str]:
    """Return the names and addresses at which a host is reached, by itself and by others."""
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


# --- What is in them --------------------------------------------------------------------------------------------------


def parted(text: str) -> tuple[str, str]:
    """Part a text of a key and a certificate into the two.

    :param text: what ``issue`` returns.
    :return: the key and the certificate, in PEM.
    """
    key, mark, certificate = text.partition("-----BEGIN CERTIFICATE-----")
    return key, mark + certificate


def until(certificate: str) -> datetime.datetime:
    """Return until when a certificate is valid."""
    return _certificates(certificate)[0].not_valid_after_utc


def left(certificate: str, now: datetime.datetime) -> float:
    """Return what is left of a certificate's life: 1 when it is new, 0 and less when it has expired.

    :param certificate: in PEM; of several, the first.
    :param now: the time.
    """
    one = _certificates(certificate)[0]
    return (one.not_valid_after_utc - now) / (one.not_valid_after_utc - one.not_valid_before_utc)


def amiss(
    key: str | None, certificate: str, authorities: Sequence[str], names: Iterable[str], now: datetime.datetime
) -> dict[str, str]:
    """Say what keeps a host's certificate from serving.

    :param key: in PEM, or ``None`` where it is not to be had.
    :param certificate: in PEM.
    :param authorities: certificates in PEM; one of them must have issued it.
    :param names: at which the host is reached.
    :param now: the time.
    :return: a mapping of ``key``, ``certificate`` or ``authorities`` to what is wrong there.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    found: dict[str, str] = {}
    issuers: list[x509.Certificate] = []
    for index, text in enumerate(authorities):
        try:
            issuers += _certificates(text)
        except ValueError:
            found[f"authorities[{index}]"] = "cannot be read"
    try:
        (one, *_) = _certificates(certificate)
        given = set(map(str, _alternatives(one)))
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return found | {"certificate": "cannot be read"}
    if key is not None:
        try:
            if _key(key).public_key() != one.public_key():
                found["key"] = "is that of another certificate"
        except (ValueError, TypeError, UnsupportedAlgorithm):
            found["key"] = "cannot be read"
    if one.not_valid_after_utc <= now:
        found["certificate"] = f"expired on {one.not_valid_after_utc:%Y-%m-%d}"
    elif lacking := [name for name in names if name not in given]:
        found["certificate"] = f"is not for {', '.join(lacking)}"
    for issuer in issuers:
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            one.verify_directly_issued_by(issuer)
            if issuer.not_valid_after_utc <= now:
                found.setdefault("authorities", f"expired on {issuer.not_valid_after_utc:%Y-%m-%d}")
            return found
    return found if "certificate" in found else found | {"certificate": "was issued by none of the authorities"}


def _alternatives(certificate: x509.Certificate) -> list[object]:
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)]


def _certificates(text: str) -> list[x509.Certificate]:
    from cryptography import x509

    return x509.load_pem_x509_certificates(text.encode())


def _key(text: str) -> Any:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(text.encode(), None)


# --- On a host --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Host:
    """What a host is told of certificates.

    :param id: its id.
    :param address: its IPv4 address.
    :param given: the settings of the formula ``certificates``, complete.
    """

    id: str
    address: str
    given: Mapping[str, Any]

    @classmethod
    def of(cls, pillar: Mapping[str, Any], minion_id: str) -> Host:
        """Return the host of a pillar.

        :param pillar: as it was compiled for the host.
        :param minion_id: the host's id.
        """
        return cls(minion_id, pillar["hosts"][minion_id]["address"], pillar["certificates"])


def mistakes(
    given: Mapping[str, Any], row: Mapping[str, Any], minion_id: str, now: datetime.datetime | None = None
) -> list[str]:
    """List what is wrong with the certificates that the pillar gives a host, or does not.

    :param given: the settings of the formula ``certificates``, complete.
    :param row: the host's, of the inventory.
    :param minion_id: the host's id.
    :param now: the time, where it is not this moment.
    :return: a message for each mistake.
    """
    environment, words = row["environment"], ("authorities", "certificate", "key")
    command = f"expected what bin/issue-certificates {environment} writes: run it"
    missing = [word for word in words if not given.get(word)]
    if len(missing) == len(words):
        if given["alone"]:
            return []
        return [f"certificates: missing, and several hosts of {environment} must know each other; {command}"]
    if missing:
        return [f"certificates.{word}: missing; {command}" for word in missing]
    names = names_of(minion_id, row["address"])
    found = amiss(given["key"], given["certificate"], given["authorities"], names, now or _now())
    return [f"certificates.{word}: {what}; {command}" for word, what in sorted(found.items())]


def authorities(host: Host) -> str | None:
    """Return the authorities that the host's apps trust, in PEM: the pillar's, or the host's own.

    :return: text, or ``None`` where the host's own authority is yet to be made.
    """
    if given := host.given["authorities"]:
        return "".join(one.rstrip("\n") + "\n" for one in given)
    return own()


def pair(host: Host, path: str) -> str | None:
    """Return a service's key and certificate as they should be.

    :param path: where the service has them.
    :return: text; ``None`` where they are yet to be issued by the host's own authority.
    """
    if host.given["authorities"]:
        return str(host.given["key"]).rstrip("\n") + "\n" + str(host.given["certificate"]).rstrip("\n") + "\n"
    authority, text = _own(), files.read(path)
    if not authority or not text:
        return None
    key, certificate = parted(text)
    names = names_of(host.id, host.address)
    if amiss(key, certificate, [parted(authority)[1]], names, _now()) or left(certificate, _now()) < RENEWED:
        return None
    return text


def write_authorities(host: Host, path: str, text: str | None) -> None:
    """Write the authorities that the host's apps trust.

    :param path: the file.
    :param text: what ``authorities`` returned. Where that is ``None``, the host's own authority is made.
    """
    if text is None:
        _replace(OWN, new_authority(host.id, _now()), "root", 0o600)
        text = authorities(host) or ""
    _replace(path, text, "root", 0o644)


def write_pair(host: Host, path: str, text: str | None, user: str) -> None:
    """Write a service's key and certificate.

    :param path: the file.
    :param text: what ``pair`` returned. Where that is ``None``, the host's own authority issues it.
    :param user: the service's.
    :raises CommandExecutionError: when there is no such user.
    """
    if text is None:
        text = issue(_own() or "", host.id, host.address, _now())
    _replace(path, text, user, 0o600)


def _replace(path: str, text: str, user: str, mode: int) -> None:
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        raise CommandExecutionError(f"{path}: there is no user {user}") from None
    files.write(path, text, mode, owner.pw_uid, owner.pw_gid)


def own() -> str | None:
    """Return the certificate of the host's own authority, ``None`` where it is yet to be made."""
    authority = _own()
    return authority and parted(authority)[1]


def issued_here(host_id: str, subject: str, names: Iterable[str]) -> str:
    """Issue a certificate by the host's own authority, which is made where there is none.

    :param host_id: the host's id.
    :param subject: its common name.
    :param names: domains.
    :return: a new key and its certificate in one text, in PEM.
    """
    if not _own():
        _replace(OWN, new_authority(host_id, _now()), "root", 0o600)
    return issue_for(_own() or "", subject[:64], names, _now())


def expiring(roles: Collection[str], sites: Iterable[str]) -> dict[str, str]:
    """List the certificates of this host that should have been renewed long ago.

    :param roles: the host's.
    :param sites: the apps that have a site on it.
    :return: a mapping of path to the day on which it expires.
    """
    found = {}
    names = ["ca", *(service.kind for service in services.on(roles) if service.has_certificate)]
    names += [f"sites/{app}" for app in sites]
    for path in (f"{DIRECTORY}/{name}.pem" for name in names):
        with contextlib.suppress(ValueError):
            certificate = (text := files.read(path)) and parted(text)[1]
            if certificate and left(certificate, _now()) < FORGOTTEN:
                found[path] = f"{until(certificate):%Y-%m-%d}"
    return found


def _own() -> str | None:
    """Return key and certificate of the host's own authority, ``None`` where there is none that serves."""
    text = files.read(OWN)
    try:
        if text and _key(text).public_key() == _certificates(text)[0].public_key() and left(text, _now()) >= RENEWED:
            return text
    except (ValueError, TypeError):
        pass
    return None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
