"""Domains of an app. One may begin with ``*.``: it stands for all domains that have one name more."""

from collections.abc import Iterable, Mapping
from typing import Any

WILDCARD = "*."


def is_covered(domain: str, names: Iterable[str]) -> bool:
    """Tell whether one of some names stands for a domain.

    :param domain: in lower case.
    :param names: such as ``shop.example.com`` or ``*.example.com``.
    """
    _, _, parent = domain.partition(".")
    wanted = {domain, f"{WILDCARD}{parent}"} if parent else {domain}
    return any(name.lower() in wanted for name in names)


def mistakes(app: str, one: Mapping[str, Any]) -> list[str]:
    """List the mistakes in an app's domains.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    if one["domains"] and one["domains"][0].startswith(WILDCARD):
        parent = one["domains"][0].removeprefix(WILDCARD)
        return [
            f"app.{app}.domains[0]: stands for many domains, and redirects and health checks go to the first one; "
            f"expected one domain before it, such as {parent}"
        ]
    return []


def patterns(domains: Iterable[str]) -> list[str]:
    """Write domains as the map of a site matches a host: a regular expression for one that stands for others.

    :param domains: in lower case.
    """
    return [_pattern(domain) for domain in domains]


def _pattern(domain: str) -> str:
    if not domain.startswith(WILDCARD):
        return f"is {domain}"
    # Of two names no certificate is, while nginx's `server_name` takes any number.
    parent = domain.removeprefix(WILDCARD).replace(".", "[.]")
    return f"~^is [^.]+[.]{parent}$"
