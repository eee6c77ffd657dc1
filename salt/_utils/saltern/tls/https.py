"""HTTPS as the pillar declares it: what is wrong with it, and the header that has browsers use nothing else."""

import datetime
import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from saltern.tls import certificate
from saltern.web import redirects
from saltern.web.domains import WILDCARD, is_covered

# Seconds of max_age that browsers ask for before they build a domain in; see https://hstspreload.org.
PRELOAD_SECONDS = 31536000


def mistakes(
    settings: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    minion_id: str,
    now: datetime.datetime | None = None,
) -> list[str]:
    """List what is wrong with the declared HTTPS, on the hosts that serve it.

    :param settings: a mapping of formula to settings, complete.
    :param hosts: the inventory, rows by host id.
    :param minion_id: the host's id.
    :param now: the time. Without it, this moment.
    :return: a message for each mistake. None where the host is no proxy.
    """
    return judged(settings, now or certificate.now()) if "proxy" in hosts[minion_id]["roles"] else []


def judged(settings: Mapping[str, Any], now: datetime.datetime) -> list[str]:
    """List what is wrong with the declared HTTPS, whichever host serves it; see ``mistakes``."""
    found, tls = [], settings["nginx"]["tls"]
    if tls["source"] == "acme" and not tls["acme"]["agree_terms"]:
        found.append("nginx.tls.acme.agree_terms: expected True, once you have read the authority's terms of service")
    hsts = tls["hsts"]
    if hsts["preload"] and not (hsts["include_subdomains"] and hsts["max_age"] >= PRELOAD_SECONDS):
        found.append(
            f"nginx.tls.hsts.preload: expected include_subdomains beside it, and a max_age of {PRELOAD_SECONDS} or more"
        )
    for app, one in sorted(settings["app"].items()):
        if not one["site"].get("certificate") and tls["source"] == "acme":
            found += [
                f"app.{app}.domains[{index}]: ACME needs a record of DNS for each renewal (DNS-01), which Saltern "
                f"does not write; expected app.{app}.site.certificate and key, or domains in full"
                for index, domain in enumerate(one["domains"])
                if domain.startswith(WILDCARD)
            ]
        path, given = f"app.{app}.site", [word for word in ("certificate", "key") if one["site"].get(word)]
        if len(given) == 1:
            (missing,) = {"certificate", "key"} - {*given}
            found.append(f"{path}.{missing}: missing; expected it beside {given[0]}")
        elif given:
            wrong = amiss(one["site"]["key"], one["site"]["certificate"], redirects.names(one), now)
            found += [f"{path}.{word}: {what}" for word, what in sorted(wrong.items())]
    return found


def amiss(key: str, text: str, domains: Iterable[str], now: datetime.datetime) -> dict[str, str]:
    """Say why nginx cannot serve some domains with a certificate.

    :param key: in PEM.
    :param text: the certificate in PEM, followed by those between it and its authority.
    :param domains: the domains, in lower case.
    :param now: the time.
    :return: what is wrong and what was expected, by ``key`` or ``certificate``. Empty where nothing is wrong.
    """
    try:
        one = certificate.read(text)[0]
    except (ValueError, IndexError):
        return {"certificate": "cannot be read; expected certificates in PEM, its own first"}
    try:
        is_its_own = certificate.read_key(key).public_key() == one.public_key()
    except Exception:
        # Whatever the key is, the library has an error of its own for it.
        return {"key": "cannot be read; expected a private key in PEM, without a passphrase"}
    if not is_its_own:
        return {"key": "is that of another certificate; expected the one of app.<name>.site.certificate's first"}
    if one.not_valid_after_utc <= now:
        return {"certificate": f"expired on {one.not_valid_after_utc:%Y-%m-%d}; expected one that is valid"}
    if one.not_valid_before_utc > now:
        return {"certificate": f"is valid from {one.not_valid_before_utc:%Y-%m-%d} on; expected one that is valid now"}
    if lacking := [domain for domain in domains if not is_covered(domain, certificate.domains_of(one))]:
        return {"certificate": f"is not for {', '.join(lacking)}; expected one for all domains of the app"}
    return _refused(key, text)


def _refused(key: str, text: str) -> dict[str, str]:
    """Say why OpenSSL, and so nginx, refuses a key and certificates: too short a key, a signature by SHA-1."""
    # OpenSSL reads files alone: this one is in memory, so that the key is on no disk.
    with open(os.memfd_create("saltern"), "w", encoding="ascii", errors="replace") as stream:
        stream.write(certificate.joined(key, text))
        stream.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{stream.fileno()}")
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or "no reason given"
            return {"certificate": f"is refused by OpenSSL ({reason.lower()}); expected another"}
    return {}


def hsts(tls: Mapping[str, Any]) -> str:
    """Return the header that has browsers use HTTPS alone.

    :param tls: the setting ``nginx.tls``.
    :return: the header's value. Empty where nginx serves over HTTP too.
    """
    words = tls["hsts"]
    if not (tls["redirect"] and words["max_age"]):
        return ""
    parts = [f"max-age={words['max_age']}"]
    parts += ["includeSubDomains"] if words["include_subdomains"] else []
    parts += ["preload"] if words["preload"] else []
    return "; ".join(parts)
