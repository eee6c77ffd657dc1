"""What a schema cannot tell of the apps' settings, and what nginx serves of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.attachments import parts
from saltern.leases import WAY_OUT
from saltern.services.base import Hosts
from saltern.web import access, away, domains, rates, redirects, routes, served, shared

App = Mapping[str, Any]

# Of the hundred ports of an app the first is its front. After it come those of its processes that listen, in two slots:
# while a release takes over from another, each has one.
SLOT = 49

# The last place in a slot of a process that listens beside those of web. The ports after it, in the second slot, are
# those of services that the app attaches, such as Redis.
LAST = 39

# A variable's name is that of a file, too.
LONGEST = 255


def declared(apps: Mapping[str, Any], app: str) -> App:
    """Return the settings of an app of this host.

    :param apps: the settings of all apps.
    :param app: the app's name, as somebody typed it.
    :raises CommandExecutionError: when no app of the host has this name.
    """
    if app not in apps:
        known = ", ".join(sorted(apps)) or "none"
        raise CommandExecutionError(f"{app}: no app of this host has this name; expected one of {known}")
    settings: App = apps[app]
    return settings


def alone(one: App) -> set[str]:
    """Return the process types of which one process runs in the whole environment.

    :param one: the app's settings, with defaults.
    """
    return {kind for kind, count in one["count"].items() if count == "environment"}


def takes_leases(one: App) -> bool:
    """Tell whether an app has jobs, or a process that runs once in the whole environment.

    :param one: the app's settings, with defaults.
    """
    return bool(one["jobs"] or alone(one))


def contested(apps: Mapping[str, App], hosts: Hosts) -> list[str]:
    """List the process types, and the apps with jobs, that cannot be alone in their environment.

    :param apps: settings by app, with defaults.
    :param hosts: the inventory.
    """
    found = []
    undecided = len(hosts.peers("app")) > 1 and not hosts.peers("etcd")
    for app, one in sorted(apps.items()):
        for kind in sorted(alone(one)):
            if one["formation"].get(kind, 0) > 1:
                found.append(
                    f"app.{app}.formation.{kind}: {one['formation'][kind]} processes, of which app.{app}.count.{kind} "
                    "has one run in the environment; expected 1"
                )
            if one["order"].get(kind) == "start-first":
                found.append(
                    f"app.{app}.order.{kind}: start-first, and app.{app}.count.{kind} is environment; expected "
                    "stop-first, or no order"
                )
            if undecided and one["formation"].get(kind):
                found.append(
                    f"app.{app}.count.{kind}: several hosts of {hosts.environment} have the role app, and none has the "
                    f"role etcd, which decides where the process runs; expected it in pillar/hosts.yaml: {WAY_OUT}"
                )
        if undecided and one["jobs"]:
            found.append(
                f"app.{app}.jobs: several hosts of {hosts.environment} have the role app, and none has the role etcd, "
                f"which decides where a job runs; expected it in pillar/hosts.yaml: {WAY_OUT}"
            )
    return found


def places(formation: Mapping[str, int], others: Sequence[str]) -> dict[str, int]:
    """Return the place in a slot of each process that listens.

    Those of web go up from the first one, those of other types down from ``LAST``, in turn: a place stays where the
    formation changes. Which types listen is a part of a release, and so changes with the slot.

    :param formation: number by process type.
    :param others: the process types that listen beside ``web``.
    :return: numbers from 1 to ``SLOT``, such as ``{'web.1': 1, 'asgi.1': 39}``. With too many processes, two have one
        place, or a place is less than 1.
    """
    found = {f"web.{index}": index for index in range(1, formation.get("web", 0) + 1)}
    for number, kind in enumerate(sorted(others)):
        for index in range(formation.get(kind, 0)):
            found[f"{kind}.{index + 1}"] = LAST - index * len(others) - number
    return found


def listening_ports(one: App) -> dict[int, str]:
    """Return the ports of an app's processes that listen, in both slots, each with its process.

    :param one: its settings, with defaults.
    """
    found = places(one["formation"], routes.others(one))
    return {one["port"] + slot * SLOT + place: process for slot in (1, 0) for process, place in found.items()}


def crowded(apps: Mapping[str, App], taken: Mapping[int, str]) -> list[str]:
    """List the formations whose processes need a port that a service has, or more ports than there are.

    :param apps: settings by app, with defaults.
    :param taken: what has which port.
    """
    found = []
    for app, one in sorted(apps.items()):
        own = places(one["formation"], routes.others(one))
        if len({*own.values()}) < len(own) or min(own.values(), default=1) < 1:
            kinds = [kind for kind in routes.listening(one) if one["formation"].get(kind)]
            found.append(
                f"app.{app}.formation: there are {LAST} ports for the processes that listen ({', '.join(kinds)}), "
                "which take them in turn; expected fewer processes"
            )
            continue
        ports = listening_ports(one)
        if needed := sorted(ports.keys() & taken.keys()):
            kind, place = ports[needed[0]].partition(".")[0], needed[0] - one["port"] - SLOT
            most = f"at most {place - 1}" if kind == "web" else f"fewer, or another app.{app}.port"
            found.append(
                f"app.{app}.formation.{kind}: {one['formation'][kind]} processes need the port {needed[0]}, which "
                f"{taken[needed[0]]} has; expected {most}"
            )
    return found


def mistakes(app: str, one: App) -> list[str]:
    """List the mistakes inside one app's settings.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    found = []
    seconds, setting = routes.timeout(one)
    if one["in_flight"]["requests"] < seconds:
        found.append(
            f"app.{app}.in_flight.requests: {one['in_flight']['requests']} s would cut off answers that "
            f"app.{app}.{setting} allows; expected at least {seconds}"
        )
    found += domains.mistakes(app, one) + _twice(app, one)
    for variable, value in sorted(one["config"].items()):
        try:
            size = len(f"{variable}={value}".encode())
        except UnicodeEncodeError:
            found.append(f"app.{app}.config.{variable}: expected text that UTF-8 can encode")
            continue
        # Linux's MAX_ARG_STRLEN: one string of an environment, with its NUL; see execve(2).
        if size >= 131072:
            found.append(f"app.{app}.config.{variable}: {size} bytes with its name; expected less than 131072")
    return found


def _twice(app: str, one: App) -> list[str]:
    """List the variables that an app would get twice, and parts that no app can get."""
    found = []
    given = {variable: f"app.{app}.config.{variable}" for variable in one["config"]}
    for variable, target in sorted(one["attach"].items()):
        path = f"app.{app}.attach.{variable}"
        try:
            names = parts.names(variable, target)
        except ValueError:
            found.append(f"{path}.url: its parts cannot be told; expected a URL such as postgres://shop@db:5432/shop")
            continue
        for name in names:
            if not parts.is_in_parts(target) and name in one["config"]:
                found.append(f"app.{app}.config.{name}: is also in app.{app}.attach; expected it in one of them")
            elif name in given:
                found.append(f"{path}: would give {name}, which is {given[name]} too; expected it in one of them")
            elif parts.is_in_parts(target) and (name.startswith("SUPERVISOR_") or len(name) > LONGEST):
                found.append(f"{path}: would give {name}, which is no app's variable; expected another name")
            given.setdefault(name, path)
    return found


def duplicates(apps: Mapping[str, App]) -> list[str]:
    """List the ports and domains that two apps claim; see ``shared.mistakes`` for the domains that they may share.

    :param apps: settings by app, with defaults.
    """
    found: list[str] = []
    ports: dict[int, str] = {}
    domains: dict[str, tuple[str, str]] = {}
    for app, one in sorted(apps.items()):
        first = ports.setdefault(one["port"], app)
        if first != app:
            found.append(f"app.{app}.port: is also the port of {first}; expected one of its own")
        own = [(f"app.{app}.domains[{index}]", domain) for index, domain in enumerate(one["domains"])]
        others = enumerate(one["site"]["redirects"]["domains"])
        own += [(f"app.{app}.site.redirects.domains[{index}]", domain) for index, domain in others]
        for path, domain in own:
            owner, first = domains.setdefault(domain, (app, path))
            is_shared = owner != app and ".redirects." not in first + path
            if first != path and not is_shared:
                found.append(f"{path}: is also a domain of {owner}; expected it once")
    return found


def sites(apps: Mapping[str, App], roles: Sequence[str]) -> dict[str, Any]:
    """Return what nginx serves on a host: the sites of proxies, and the fronts of app hosts.

    :param apps: settings by app, with defaults.
    :param roles: the host's.
    :return: ``sites`` and ``fronts``, each by app, the ``guests``, whose domains are another app's site, and the
        domains of apps that serve nothing, ``idle``.
    """
    web = {app: one for app, one in sorted(apps.items()) if one["formation"].get("web")}
    held = shared.holders({app: one for app, one in web.items() if one["domains"] and "proxy" in roles})
    found = {app: _site(web[app]) for app in held}
    shared.complete(found, held, web)
    names = {domain for app in held for domain in redirects.names(web[app])}
    idle = [domain for app, one in sorted(apps.items()) if app not in web for domain in redirects.names(one)]
    return {
        "sites": {app: found[app] for app, holder in sorted(held.items()) if app == holder},
        "guests": {app: found[app] for app, holder in sorted(held.items()) if app != holder},
        "idle": [domain for domain in dict.fromkeys(idle) if domain not in names] if "proxy" in roles else [],
        "fronts": {app: _site(one) for app, one in web.items() if "app" in roles},
    }


def _site(one: App) -> dict[str, Any]:
    its = {word: value for word, value in one["site"].items() if word not in ("certificate", "key")}
    its |= {"access": access.derived(one), "limits": rates.derived(one)}
    its |= {"matches": domains.patterns(one["domains"])}
    its |= {"domains": one["domains"], "port": one["port"], "health": served.pattern(one["health"]["path"])}
    its |= {"routes": routes.derived(one), "others": routes.others(one), "away": away.kinds(one)}
    its["can_be_away"] = bool(its["away"])
    its |= {"guests": [], "closed": "", "open": "", "outside": "", "by_path": {}, "told": served.told(one)}
    return its | {"serve": served.locations(one), "errors": served.pages(one), "redirects": redirects.derived(one)}


def unknown_types(settings: Mapping[str, Any], types: Iterable[str]) -> list[tuple[str, str, list[str]]]:
    """List the process types that an app's settings ask for and its build lacks.

    :param settings: the app's.
    :param types: those of the build's Procfile.
    :return: for each the setting's path below the app, the type, and those that the setting could name.
    """
    # No formation has the process type `release`: it runs once, in a release. Jobs, and what is alone in its
    # environment, have no port.
    with_port, without = sorted({*types} - {"release"}), sorted({*types} - {"release", *routes.listening(settings)})
    asked = [(f"formation.{kind}", kind, with_port) for kind, count in sorted(settings["formation"].items()) if count]
    routed = sorted(settings["site"]["routes"].items())
    asked += [(f"site.routes.{path}", route["process"], with_port) for path, route in routed]
    asked += [(f"order.{kind}", kind, with_port) for kind in sorted(settings["order"])]
    asked += [(f"count.{kind}", kind, without) for kind in sorted(settings["count"])]
    asked += [(f"jobs.{job}.process", one["process"], without) for job, one in sorted(settings["jobs"].items())]
    return [one for one in asked if one[1] not in types]
