"""What an app has of its attachments on a host: variables of its config, and the states that come first."""

import os
from collections.abc import Iterable

from saltern import services
from saltern.attachments import parts
from saltern.host import Host
from saltern.services.base import Requisite, Target
from saltern.services.resource import Resource


def url(target: Target, app: str, secret: str = "") -> str:
    """Write the URL of an attachment.

    :param target: one entry of an app's ``attach``, completed.
    :param app: the app's name.
    :param secret: the resource's password, where it has one.
    :return: the value of the config variable.
    """
    service = services.named(target) or next(one for one in services.listed().values() if one.replaces)
    return service.url(target, app, secret)


def environ(host: Host, app: str) -> dict[str, str]:
    """Return an app's whole config on a host: its variables, and its attachments' URLs or parts.

    :param host: the host.
    :param app: the app's name.
    :return: value by variable.
    """
    variables = dict(host.app(app)["config"])
    for variable, target in host.attach(app).items():
        variables |= parts.variables(variable, target, url(target, app, host.secret(target, app)))
    return variables


def clients(host: Host) -> list[str]:
    """Return the Debian packages of the commands by which an operator asks what the apps of a host attach.

    :param host: the host.
    """
    kinds = {
        kind for one in host.pillar["app"].values() for target in one["attach"].values() for kind in _kinds(target)
    }
    row = host.ask("settings.debian")
    found = {service.client(row) for service in services.resources() if service.kind in kinds}
    return sorted(found - {""})


def _kinds(target: Target) -> Iterable[str]:
    """Yield which services an attachment may lead to: somebody else's, too, by its URL."""
    scheme = str(target.get("url", "")).partition(":")[0]
    for service in services.resources():
        if service.kind in target or scheme in service.known_as:
            yield service.kind


def targets(host: Host, app: str) -> dict[str, Target]:
    """Return what an app attaches, without what a host derives of it. What has a URL is not derived.

    :param host: the host.
    :param app: the app's name.
    :return: by variable, such as ``{'DATABASE_URL': {'postgres': 'tickets'}}``.
    """
    return {
        variable: service.recorded(target) | parts.recorded(target)
        for variable, target in host.attach(app).items()
        if (service := services.named(target))
    }


def _here(host: Host, app: str) -> Iterable[tuple[Resource, Target]]:
    """Yield the resources of a host that an app attaches: service and attachment."""
    for _, target in sorted(host.attach(app).items()):
        service = services.named(target)
        if isinstance(service, Resource) and service.role in host.roles:
            yield service, target


def requisites(host: Host, app: str) -> list[Requisite]:
    """Return the states of a host that must have succeeded before an app can have what it attaches.

    :param host: the host.
    :param app: the app's name.
    :return: requisites, as a state file says them.
    """
    return [
        requisite
        for service, target in _here(host, app)
        for requisite in (
            (service.lent if "access" in target else service.made)(target[service.kind]),
            *service.beside(target),
        )
    ]


def claims(host: Host, app: str) -> list[Requisite]:
    """Return the states of a host that refuse an app what holds the data of another one.

    :param host: the host.
    :param app: the app's name.
    :return: requisites, as a state file says them.
    """
    found = [(service, target[service.kind]) for service, target in _here(host, app) if "access" not in target]
    return [service.claimed(name) for kind in services.formulas() for service, name in found if service.kind == kind]


def left(host: Host) -> list[str]:
    """List the services whose role a host has lost, and which have files of apps there. No formula closes those.

    :param host: the host.
    """
    there = services.on(host.roles)
    lost = [service for service in services.resources() if service not in there]
    return [service.kind for service in lost if any(map(os.path.isdir, service.guarded))]


def replacing(host: Host) -> list[Requisite]:
    """Return the states of a host that end a resource because another one takes its place.

    :param host: the host.
    :return: requisites, as a state file says them.
    """
    return [requisite for service in services.on(host.roles) for requisite in service.replacing()]


def units(host: Host) -> list[str]:
    """Return the units after which an app's processes are started at boot, where they are on the same host.

    :param host: the host.
    """
    found: list[str] = []
    for service in services.resources():
        found += service.units(host.settings(service.kind))
    return found
