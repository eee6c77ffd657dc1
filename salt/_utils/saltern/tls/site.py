"""The certificate with which nginx serves an app's domains, whoever issued it.

The key and the certificates of an app are one file, which changes by one rename. The file is there before nginx's
configuration names it: with a certificate of the pillar, of the host's own authority or by ACME, or with a placeholder
until there is one. So the configuration is the same for each of them, and nginx starts while an authority is down.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from saltern.apps import declared
from saltern.host import Host
from saltern.system import files
from saltern.tls import certbot, certificate, known
from saltern.tls import host as hosts_own
from saltern.web import redirects
from saltern.web.domains import is_covered

if TYPE_CHECKING:
    from cryptography import x509

DIRECTORY = f"{hosts_own.DIRECTORY}/sites"

PLACEHOLDER = "Saltern: no certificate yet"
# Days for which a placeholder is valid.
PLACEHOLDER_DAYS = 365


def source(pillar: Mapping[str, Any], app: str) -> str:
    """Return where an app's certificate comes from.

    :param pillar: of the host.
    :param app: the app's name.
    :return: ``pillar``, ``acme`` or ``authority``.
    :raises CommandExecutionError: when no app of the host has this name.
    """
    given = declared(pillar["app"], app)["site"].get("certificate")
    return "pillar" if given else str(pillar["nginx"]["tls"]["source"])


def by_acme(pillar: Mapping[str, Any]) -> list[str]:
    """List the apps of a host that get their certificate by ACME.

    :param pillar: of the host.
    :return: names, sorted.
    """
    return [app for app in sorted(pillar["nginx"]["sites"]) if source(pillar, app) == "acme"]


def path(app: str) -> str:
    """Return the file from which nginx reads an app's key and certificates.

    :param app: the app's name.
    """
    return f"{DIRECTORY}/{app}.pem"


def pair(pillar: Mapping[str, Any], app: str) -> str | None:
    """Return the key and the certificates that an app's file should have now.

    :param pillar: of the host.
    :param app: the app's name.
    :return: text, or ``None`` where ``write`` must make them: by the host's own authority, or as a placeholder.
    """
    kind, there, settings = source(pillar, app), files.read(path(app)), declared(pillar["app"], app)
    if kind == "pillar":
        return certificate.joined(settings["site"]["key"], settings["site"]["certificate"])
    if kind == "acme":
        # Until certbot has got the first one, nginx serves what is there.
        return certbot.pair(app) or (there if certificate.is_pair(there) else inherited(pillar, app))
    domains, authority, now = redirects.names(settings), hosts_own.own(), certificate.now()

    def judge() -> tuple[bool, datetime.datetime | None]:
        is_right = is_own(there, domains, authority, now)
        return is_right, certificate.moment(there or "", certificate.RENEWED) if is_right else None

    return there if known.answer("is it for these domains", [there, authority, *domains], now, judge) else None


def inherited(pillar: Mapping[str, Any], app: str) -> str | None:
    """Return the key and the certificates of an app that had the site of an app's domains before, where it is gone.

    :param pillar: of the host.
    :param app: the app's name.
    :return: text, ``None`` where no certificate is for all of the domains.
    """
    wanted = redirects.names(declared(pillar["app"], app))
    for one in unused(pillar):
        text = files.read(one)
        if text and certificate.is_pair(text):
            first = certificate.read(text)[0]
            names = certificate.domains_of(first)
            if not is_placeholder(first) and all(is_covered(domain, names) for domain in wanted):
                return text
    return None


def is_own(text: str | None, domains: Iterable[str], authority: str | None, now: datetime.datetime) -> bool:
    """Tell whether a host's own authority has issued a certificate, for these domains, and need not renew it yet.

    :param text: what the app's file says, ``None`` where there is none.
    :param domains: of the app.
    :param authority: the authority's certificate, ``None`` where the host has no authority yet.
    :param now: the time.
    """
    from cryptography.exceptions import InvalidSignature

    if not text or not authority or not certificate.is_pair(text):
        return False
    one = certificate.read(text)[0]
    try:
        one.verify_directly_issued_by(certificate.read(authority)[0])
    except (ValueError, TypeError, InvalidSignature):
        return False
    return certificate.left(text, now) >= certificate.RENEWED and {*certificate.domains_of(one)} == {*domains}


def write(host: Host, app: str, text: str | None) -> None:
    """Write an app's key and certificates. At any moment the file is the old one or the new one.

    :param host: the host.
    :param app: the app's name.
    :param text: what ``pair`` returned. With ``None``, a certificate is made: a placeholder where the app gets its own
        by ACME, otherwise one of the host's own authority.
    """
    if text is None:
        domains = redirects.names(declared(host.pillar["app"], app))
        if source(host.pillar, app) == "acme":
            text = placeholder(domains, certificate.now())
        else:
            text = hosts_own.issued_here(host.id, domains[0], domains)
    files.write(path(app), text, 0o600)


def placeholder(domains: Iterable[str], now: datetime.datetime) -> str:
    """Make a certificate that nobody trusts, so that nginx can start.

    :param domains: of the app.
    :param now: the time.
    :return: a key and its certificate in one text, in PEM.
    """
    return certificate.self_signed(PLACEHOLDER, domains, now, now + datetime.timedelta(days=PLACEHOLDER_DAYS))


def is_placeholder(one: x509.Certificate) -> bool:
    """Tell whether a certificate is a placeholder.

    :param one: the certificate, read.
    """
    return one.issuer == one.subject and PLACEHOLDER in one.subject.rfc4514_string()


def snippets(pillar: Mapping[str, Any]) -> dict[str, str]:
    """Return the directives of nginx that depend on what is in each app's certificate.

    :param pillar: of the host.
    :return: text by path in nginx's tree.
    """
    return {f"tls/{app}.conf": snippet(path(app), files.read(path(app))) for app in sorted(pillar["nginx"]["sites"])}


def snippet(path: str, text: str | None) -> str:
    """Write the directives of nginx that depend on what is in a certificate.

    :param path: the file.
    :param text: what the file says, ``None`` where it is not written yet.
    :return: directives.
    """
    said = known.answer("which directives", [text], certificate.now(), lambda: _said(text or ""))
    lines = [f"ssl_certificate {path};", f"ssl_certificate_key {path};", *said]
    return "".join(f"{line}\n" for line in lines)


def _said(text: str) -> tuple[list[str], datetime.datetime | None]:
    """Return the directives that follow from what is in a certificate, and until when these are known."""
    lines, one = [], None
    with contextlib.suppress(ValueError, IndexError):
        one = certificate.read(text)[0]
    # Without a responder in the certificate nginx would warn. Let's Encrypt has named none since 2025.
    if one and certificate.responder_of(one):
        lines.append("ssl_stapling on;")
    if not (one and is_placeholder(one)):
        lines.append("add_header Strict-Transport-Security $hsts always;")
    return lines, one.not_valid_after_utc if one else None


def unused(pillar: Mapping[str, Any]) -> list[str]:
    """List the files of apps that nginx no longer serves.

    :param pillar: of the host.
    :return: paths, sorted.
    """
    names = os.listdir(DIRECTORY) if os.path.isdir(DIRECTORY) else []
    wanted = {f"{app}.pem" for app in pillar["nginx"]["sites"]}
    return [f"{DIRECTORY}/{name}" for name in sorted(names) if name not in wanted]
