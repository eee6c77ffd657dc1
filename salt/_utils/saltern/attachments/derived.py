"""What follows from all that apps attach: who owns what, where it is reached, and who may come."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from saltern import apps as apps_
from saltern import services
from saltern.services.base import LOOPBACK, Hosts, Settings, Target
from saltern.services.resource import Resource
from saltern.web import access, rates, redirects, routes, served, shared

# Begins what is said of settings of a resource that no app attaches, after their path.
UNATTACHED = ": no app attaches it; "


def derive(settings: Settings, rows: Mapping[str, Mapping[str, Any]], minion_id: str) -> tuple[Settings, list[str]]:
    """Complete checked settings with what follows from them.

    :param settings: a mapping of formula to settings, with defaults.
    :param rows: the inventory, rows by host id.
    :param minion_id: the host's id.
    :return: the settings, and a list of mistakes.
    """
    hosts, apps = Hosts(rows, minion_id), settings["app"]
    found: list[str] = []
    for service in services.resources():
        for resource in settings[service.kind][service.plural].values():
            resource["owner"] = None
    for app, one in sorted(apps.items()):
        found += [mistake for path, target in _attachments(app, one) for mistake in _reader(path, target)]
        found += apps_.mistakes(app, one)
        for variable, target in sorted(one["attach"].items()):
            if "access" not in target:
                found += _attach(f"app.{app}.attach.{variable}", target, app, settings, hosts)
    # Of another app, once it is known whose each resource is.
    for app, one in sorted(apps.items()):
        for variable, target in sorted(one["attach"].items()):
            if "access" in target:
                found += _attach(f"app.{app}.attach.{variable}", target, app, settings, hosts)
        parts = (served, redirects, routes, access, rates)
        found += [message for part in parts for message in part.mistakes(app, one)]
    found += _unattached(settings)
    served.note(settings)
    found += apps_.duplicates(apps) + shared.mistakes(apps)
    found += apps_.contested(apps, hosts)
    taken: dict[int, str] = {}
    for service in services.resources():
        found += service.mistakes(settings[service.kind], apps)
        found += service.complete(settings[service.kind])
        taken |= {port: name for name, port in service.listeners(settings[service.kind]).items()}
    found += apps_.crowded(apps, taken)
    _reach(settings, hosts)
    if not found:
        settings["nginx"] |= apps_.sites(apps, rows[minion_id]["roles"])
    return settings, found


def _attachments(app: str, one: Mapping[str, Any]) -> Iterator[tuple[str, Target]]:
    for variable, target in sorted(one["attach"].items()):
        yield f"app.{app}.attach.{variable}", target


def _reader(path: str, target: Target) -> list[str]:
    """Complete an attachment by which an app reads what is its own: it has the access of a borrower."""
    if target.get("as") != "reader":
        return []
    derived, is_replaced = services.parted(target)
    if is_replaced:
        return []
    if not any(isinstance(service, Resource) and service.has_readers for service in derived):
        kinds = ", ".join(service.kind for service in services.resources() if service.has_readers)
        return [f"{path}.as: reader is a way to have a database; expected it beside {kinds}"]
    if "access" in target:
        return [f"{path}.access: is for what another app owns; expected as: reader alone, or access without it"]
    target["access"] = "read"
    return []


def _attach(path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
    known, (derived, is_replaced) = services.listed(), services.parted(target)
    found = [
        f"{path}.{word}: is a {kind}'s; expected it beside {kind}"
        for kind, service in known.items()
        for word in service.schema
        if word in target and kind not in target
    ]
    if len(derived) > 1 or not (derived or is_replaced):
        *most, last = known
        return [*found, f"{path}: expected one of {', '.join(most)} or {last}"]
    if target.get("as") == "parts" and not derived:
        found.append(f"{path}.as: a URL alone tells no parts; expected the service that it replaces beside it")
    if "access" in target and not any(isinstance(service, Resource) for service in derived):
        found.append(f"{path}.access: is of a resource of another app; expected it beside one, such as postgres")
        return found
    if target.get("as") == "parts" and any(not service.parts() for service in derived):
        found.append(f"{path}.as: the app gets a path, which has no parts; expected it without")
    for service in derived:
        way = service.replaced if is_replaced else service.attach
        found += way(path, target, app, settings, hosts)
    return found


def _unattached(settings: Settings) -> list[str]:
    """List the resources of which something is said, and that no app attaches."""
    # What is said of one that a URL replaces may stay, for the day on which the URL goes again.
    replaced = set()
    for one in settings["app"].values():
        for target in one["attach"].values():
            derived, is_replaced = services.parted(target)
            # Who borrows one without an owner has been told.
            if (is_replaced or "access" in target) and len(derived) == 1:
                replaced.add((derived[0].kind, target[derived[0].kind]))
    return [
        f"{service.kind}.{service.plural}.{name}{UNATTACHED}expected the name of an attached {service.kind}"
        for service in services.resources()
        for name, resource in sorted(settings[service.kind][service.plural].items())
        if resource["owner"] is None and (service.kind, name) not in replaced
    ]


def _reach(settings: Settings, hosts: Hosts) -> None:
    """Say where the resources of this host listen and who may come, and whether it shares any with other hosts."""
    apps = hosts.peers("app")
    elsewhere = [str(hosts.rows[name]["address"]) for name in apps if name != hosts.own]
    own = str(hosts.rows[hosts.own]["address"])
    # Redis would not listen on an address that it is told twice.
    listen = [own] if elsewhere and own != LOOPBACK else []
    local = [f"{LOOPBACK}/32", "::1/128"] if hosts.own in apps else []
    # etcd knows by their certificates who asks.
    decide = hosts.peers("etcd")
    asking = {*decide, *apps} if decide else set[str]()
    involved = set(asking)
    for service in services.resources():
        if service.has_certificate and service.owned(settings[service.kind]):
            involved |= {*hosts.peers(service.role), *apps}
        clients = [*local, *(f"{address}/32" for address in elsewhere)]
        service.reach(settings[service.kind], list(listen), clients)
    settings["certificates"]["client"] = hosts.own in asking
    settings["certificates"]["alone"] = hosts.own not in involved or involved == {hosts.own}


def attached(apps: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str, Target]]:
    """Yield who attaches a service: app, variable and attachment. What a URL replaces is left out.

    :param apps: settings by app, which need not be complete.
    :param kind: the service.
    """
    for app, one in sorted(apps.items()):
        for variable, target in sorted(one.get("attach", {}).items()):
            if kind in target and (service := services.named(target)) and service.kind == kind:
                yield app, variable, target


def passwords(attach: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the settings of the passwords that several hosts must know, for what an app attaches.

    :param attach: what an app attaches, which may have mistakes.
    :return: paths, such as ``('redis', 'instances', 'shop', 'password')``.
    """
    for target in attach.values():
        for service in filter(lambda service: service.has_password, services.resources()):
            if isinstance(target, Mapping) and isinstance(name := target.get(service.kind), str):
                yield service.kind, service.plural, name, "password"


def with_services(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the schema of the formula app with what services say: words of ``attach``, and names of system users.

    :param schema: as ``settings.yaml`` has it.
    """
    ((names, app),) = schema["patternProperties"].items()
    attach = app["properties"]["attach"]
    ((variables, target),) = attach["patternProperties"].items()
    target = target | {"properties": services.attachable() | target["properties"]}
    attach = attach | {"patternProperties": {variables: target}}
    app = app | {"properties": app["properties"] | {"attach": attach}}
    for user in (user for service in services.resources() for user in service.users):
        if re.search(names, user):
            names = names.replace("(?!(", f"(?!({user}|", 1)
    return {**schema, "patternProperties": {names: app}}
