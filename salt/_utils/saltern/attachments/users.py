"""Who uses a resource: the releases that run on a host with it in their config."""

import contextlib
from collections.abc import Collection, Iterator
from urllib.parse import unquote, urlsplit

from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.attachments import config, parts
from saltern.host import Host
from saltern.releases import scopes, store
from saltern.services.base import LOOPBACK
from saltern.services.resource import Resource


def holders(host: Host, service: Resource, leaving: bool = True, staying: Collection[str] = ()) -> dict[str, list[str]]:
    """List which releases of a host log in to a service by which login.

    :param host: the host.
    :param service: the service.
    :param leaving: ``False`` to pass over those that a converge would stop.
    :param staying: apps of which it would stop none; see ``users``.
    :return: releases, such as ``tickets v3``, by login.
    """
    found: dict[str, list[str]] = {}
    for app, number in scopes.in_use():
        if not leaving and _is_leaving(host, app, number, staying):
            continue
        for _, value in urls(app, number):
            user = _login_in(value, service)
            if user and f"{app} v{number}" not in found.setdefault(user, []):
                found[user].append(f"{app} v{number}")
    return found


def urls(app: str, number: int) -> Iterator[tuple[str, str]]:
    """Yield what may be a URL in the config of a release; see ``parts.urls``.

    :param app: the app's name.
    :param number: the release.
    """
    return parts.urls(store.environ(app, number), store.record(app, number).get("attached") or {})


def _login_in(value: str, service: Resource) -> str:
    """Return the login in a URL of a service, be it this host's or not."""
    with contextlib.suppress(ValueError):
        where = urlsplit(value)
        if where.scheme in service.schemes:
            return unquote(where.username or "")
    return ""


def users(
    host: Host, service: Resource, identity: str, staying: Collection[str] = (), port: int | None = None
) -> list[str]:
    """List the releases of a host that run with a resource in their config, as ``tickets v3``.

    A dry run passes over those that the converge would stop. Those of other hosts cannot be seen from here: of them the
    resource knows the connections.

    :param host: the host.
    :param service: the service.
    :param identity: by what URLs name the resource, such as a database or a port.
    :param staying: the apps whose release has failed in this run, and an empty name where the removal of apps has.
    :param port: the port that URLs of the resource must have, where it has several.
    :return: releases, sorted.
    """
    found = []
    for app, number in scopes.in_use():
        is_used = any(is_of(value, service, identity, host.address, port) for _, value in urls(app, number))
        if is_used and not (host.is_dry and _is_leaving(host, app, number, staying)):
            found.append(f"{app} v{number}")
    return found


def asked(host: Host, service: Resource, identity: str) -> list[str]:
    """Return what ``users`` does, for somebody who typed the name.

    :param host: the host.
    :param service: the service.
    :param identity: see ``users``.
    :raises CommandExecutionError: when no app attaches such a resource and no release has one.
    """
    known = {
        service.identity(urlsplit(config.url(target, app)))
        for app in host.pillar["app"]
        for target in host.attach(app).values()
        if services.named(target) is service
    }
    found = users(host, service, identity)
    if not found and identity not in known:
        expected = ", ".join(sorted(known)) or "none"
        raise CommandExecutionError(
            f"{identity}: no app attaches a {service.noun} that URLs name so, and no release has one; expected one of "
            f"{expected}"
        )
    return found


def _is_leaving(host: Host, app: str, number: int, staying: Collection[str]) -> bool:
    """Tell whether a converge would stop a release."""
    if app not in host.pillar["app"]:
        return "" not in staying
    # A run of a job goes on to its end with the release that it began with.
    if app in staying or (app, number) in scopes.of_runs(app):
        return False
    try:
        return bool(host.ask("release.plan", app)["number"] != number)
    except CommandExecutionError:
        return False


def is_of(value: str, service: Resource, identity: str, own: str = LOOPBACK, port: int | None = None) -> bool:
    """Tell whether a variable's value is the URL of a resource of a host.

    :param value: text.
    :param service: the service.
    :param identity: see ``users``.
    :param own: the host's address.
    :param port: see ``users``.
    """
    try:
        url = urlsplit(value)
        return service.is_of(url, identity, own) and port in (None, url.port)
    except ValueError:
        return False
