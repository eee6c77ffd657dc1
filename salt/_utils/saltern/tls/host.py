"""The certificates of a host: what the pillar gives it, and what it makes and renews by itself.

Where hosts must know each other, the pillar has their certificates; ``bin/issue-certificates`` writes them. A host that
is alone with its apps and with what they attach has an authority of its own.
"""

import contextlib
import dataclasses
import datetime
import functools
import pwd
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.system import files
from saltern.tls import certificate, known

DIRECTORY = "/etc/ssl/saltern"
# The key and the certificate of a host's own authority.
OWN = f"{DIRECTORY}/authority.pem"


@dataclasses.dataclass(frozen=True)
class Host:
    """A host, and what the pillar says of its certificates.

    :param id: its id.
    :param address: its IPv4 address.
    :param given: the settings of the formula ``certificates``, complete.
    """

    id: str
    address: str
    given: Mapping[str, Any]

    @classmethod
    def of(cls, pillar: Mapping[str, Any], minion_id: str) -> "Host":
        """Return the host of a pillar.

        :param pillar: as it was compiled for the host.
        :param minion_id: the host's id.
        """
        return cls(minion_id, pillar["hosts"][minion_id]["address"], pillar["certificates"])


def mistakes(
    given: Mapping[str, Any], row: Mapping[str, Any], minion_id: str, now: datetime.datetime | None = None
) -> list[str]:
    """List what is wrong with the certificate that the pillar gives a host, and what is missing.

    :param given: the settings of the formula ``certificates``, complete.
    :param row: the host's row of the inventory.
    :param minion_id: the host's id.
    :param now: the time. Without it, this moment.
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
    names = certificate.names_of(minion_id, row["address"])
    at, is_client = now or certificate.now(), bool(given.get("client"))
    found = certificate.amiss(given["key"], given["certificate"], given["authorities"], names, at, is_client)
    return [f"certificates.{word}: {what}; {command}" for word, what in sorted(found.items())]


def authorities(host: Host) -> str | None:
    """Return the authorities that the host's apps trust, in PEM: the pillar's, or the host's own.

    :return: text, or ``None`` where the host has no authority of its own yet.
    """
    if given := host.given["authorities"]:
        return "".join(one.rstrip("\n") + "\n" for one in given)
    return own()


def pair(host: Host, path: str) -> str | None:
    """Return a service's key and certificate as they should be.

    :param path: the file from which the service reads them.
    :return: text, or ``None`` where the host's own authority must issue a new certificate.
    """
    if host.given["authorities"]:
        return certificate.joined(host.given["key"], host.given["certificate"])
    authority, text = _own(), files.read(path)
    if not authority or not text:
        return None
    key, issued = certificate.parted(text)
    names, now = certificate.names_of(host.id, host.address), certificate.now()
    is_client = bool(host.given.get("client"))

    def judge() -> tuple[bool, datetime.datetime | None]:
        if certificate.amiss(key, issued, [certificate.parted(authority)[1]], names, now, is_client):
            return False, None
        return _lasts(issued, certificate.RENEWED, now)

    return text if known.answer(f"is it for this host, {is_client}", [authority, text, *names], now, judge) else None


def write_authorities(host: Host, path: str, text: str | None) -> None:
    """Write the authorities that the host's apps trust.

    :param path: the file.
    :param text: what ``authorities`` returned. With ``None``, the host makes an authority of its own.
    """
    if text is None:
        _replace(OWN, certificate.new_authority(host.id, certificate.now()), "root", 0o600)
        text = authorities(host) or ""
    _replace(path, text, "root", 0o644)


def write_pair(host: Host, path: str, text: str | None, user: str) -> None:
    """Write a service's key and certificate.

    :param path: the file.
    :param text: what ``pair`` returned. With ``None``, the host's own authority issues a certificate.
    :param user: the user that the service runs as.
    :raises CommandExecutionError: when the host has no such user.
    """
    if text is None:
        text = certificate.issue(_own() or "", host.id, host.address, certificate.now())
    _replace(path, text, user, 0o600)


def _replace(path: str, text: str, user: str, mode: int) -> None:
    try:
        owner = pwd.getpwnam(user)
    except KeyError:
        raise CommandExecutionError(f"{path}: there is no user {user}") from None
    files.write(path, text, mode, owner.pw_uid, owner.pw_gid)


def own() -> str | None:
    """Return the certificate of the host's own authority, or ``None`` where the host has none yet."""
    authority = _own()
    return authority and certificate.parted(authority)[1]


def issued_here(host_id: str, subject: str, names: Iterable[str]) -> str:
    """Have the host's own authority issue a certificate. A host without an authority makes one.

    :param host_id: the host's id.
    :param subject: the certificate's common name; what is longer than 64 characters is cut off.
    :param names: domains.
    :return: a new key and its certificate in one text, in PEM.
    """
    if not _own():
        _replace(OWN, certificate.new_authority(host_id, certificate.now()), "root", 0o600)
    return certificate.issue_for(_own() or "", subject[:64], names, certificate.now())


def expiring(roles: Collection[str], sites: Iterable[str]) -> dict[str, str]:
    """List the certificates of this host whose renewal was forgotten.

    :param roles: the host's.
    :param sites: the apps that have a site on it.
    :return: the day on which each expires, by path.
    """
    found, now = {}, certificate.now()
    names = ["ca", "etcd", "etcd-client", *(one.kind for one in services.on(roles) if one.has_certificate)]
    names += [f"sites/{app}" for app in sites]
    for path in (f"{DIRECTORY}/{name}.pem" for name in names):
        with contextlib.suppress(ValueError):
            own = (text := files.read(path)) and certificate.parted(text)[1]
            lasts = functools.partial(_lasts, own or "", certificate.FORGOTTEN, now)
            if own and not known.answer("is it forgotten", [own], now, lasts):
                found[path] = f"{certificate.until(own):%Y-%m-%d}"
    return found


def _lasts(text: str, part: float, now: datetime.datetime) -> tuple[bool, datetime.datetime | None]:
    """Tell whether more than a part of a certificate's life is left, and until when."""
    until = certificate.moment(text, part)
    return now <= until, until


def _own() -> str | None:
    """Return the key and certificate of the host's own authority, ``None`` where none may issue any more."""
    text, now = files.read(OWN), certificate.now()

    def judge() -> tuple[bool, datetime.datetime | None]:
        return _lasts(text or "", certificate.RENEWED, now) if certificate.is_pair(text) else (False, None)

    return text if known.answer("may it issue", [text], now, judge) else None
