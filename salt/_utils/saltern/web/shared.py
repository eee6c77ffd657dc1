"""Domains that several apps share: each app has a path of its own, and one of them holds the site of the domains."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from saltern.web import access, paths, rates, routes, served

Settings = Mapping[str, Any]

# What nginx has a variable for at each site, beside headers: how long to wait, and the answers in maintenance.
ALWAYS = ("retry_after", "problem", "page")
# What counts for a domain as a whole. All else of a site each app has of its own at a domain that it shares.
WHOLE = ("access", "certificate", "errors", "extra", "key", "limits")


def holders(apps: Mapping[str, Settings]) -> dict[str, str]:
    """Return whose site the domains of each app are: its own, or that of an app that it shares them with.

    The app with the path ``/`` holds the site, otherwise the first one by name.

    :param apps: settings by app, of those that nginx serves at domains.
    """
    found: dict[str, str] = {}
    for app in sorted(apps, key=lambda app: (apps[app]["site"]["path"] != "/", app)):
        other = next((other for other in found if {*apps[other]["domains"]} & {*apps[app]["domains"]}), app)
        found[app] = found.get(other, app)
    return found


def pseudo_route(one: Settings) -> dict[str, Any]:
    """Return the path of an app at a domain that another app holds, as a route to its web processes.

    :param one: the app's settings, without mistakes.
    """
    site = one["site"]
    words = {word: site[word] for word in ("path", "body_size", "timeout", "buffering")}
    return words | {"process": routes.WEB, "idle": site["timeout"], "strip": False}


def complete(sites: dict[str, dict[str, Any]], held: Mapping[str, str], apps: Mapping[str, Settings]) -> None:
    """Complete sites with what follows from the domains that they share.

    :param sites: by app, what nginx needs of its site.
    :param held: whose site the domains of each app are; see ``holders``.
    :param apps: settings by app, without mistakes.
    """
    found = {app: paths.literal(apps[app]["site"]["path"].strip("/")) for app in held}
    for app, holder in sorted(held.items()):
        if app != holder:
            site = sites[holder]
            site["guests"].append(app)
            site["open"] += f"|{found[app]}/"
            site["can_be_away"] |= sites[app]["can_be_away"]
            site["told"] = sorted({*site["told"], *sites[app]["told"]})
            site["limits"]["paths"] += sites[app]["limits"]["paths"]
            sites[app]["closed"] = f"{found[app]}/"
            sites[app]["routes"].append(pseudo_route(apps[app]))
    for app, holder in held.items():
        if app == holder:
            sites[app]["by_path"] = _by_path(app, sites, apps)
        if app == holder and found[app]:
            sites[app]["outside"] = "|".join(f"{found[each]}(/|$)" for each in [app, *sites[app]["guests"]])


def _by_path(holder: str, sites: Mapping[str, dict[str, Any]], apps: Mapping[str, Settings]) -> dict[str, Any]:
    """Return what is answered at the domains of a site by the path of the app: nginx's variables, and their values.

    :param holder: the app that holds the site.
    :param sites: by app, what nginx needs of its site.
    :param apps: settings by app.
    :return: by variable, the value of the ``holder``, and that of each path of the ``guests``, a regular expression.
        None where the app has its domains alone.
    """
    site = sites[holder]
    # nginx has a variable of an app's header only where it has a value.
    own = {app: {*ALWAYS, *map(_variable, sites[app]["told"])} for app in (holder, *site["guests"])}
    own[holder] -= {_variable(name) for name in site["told"] if not site["headers"].get(name)}

    def value(app: str, variable: str) -> str:
        return f"${variable}_of_{_variable(app)}" if variable in own[app] else "''"

    starts = {app: served.pattern(apps[app]["site"]["path"]) for app in site["guests"]}
    return {
        variable: {
            "holder": value(holder, variable),
            "guests": {start: value(app, variable) for app, start in starts.items()},
        }
        for variable in (*ALWAYS, *map(_variable, site["told"]))
        if starts
    }


def _variable(name: str) -> str:
    """Return a name as a part of the name of a variable of nginx's."""
    return name.lower().replace("-", "_")


def mistakes(apps: Mapping[str, Settings]) -> list[str]:
    """List the mistakes in the paths of apps, and in what they share.

    :param apps: settings by app, with defaults.
    """
    found = [mistake for app, one in sorted(apps.items()) for mistake in _own(app, one)]
    for first, second in combinations(sorted(apps), 2):
        if both := sorted({*apps[first]["domains"]} & {*apps[second]["domains"]}):
            found += _between(first, apps[first], second, apps[second], both[0])
    if found:
        return found
    held = holders({app: one for app, one in apps.items() if one["domains"]})
    for app, holder in sorted(held.items()):
        if app != holder:
            found += _whole(app, apps[app]["site"], holder, apps[holder]["site"])
    return found


def _own(app: str, one: Settings) -> list[str]:
    """List what an app with a path of its own has outside of this path."""
    path = one["site"]["path"]
    found = [
        f"app.{app}.site.path: is {what}; expected another path"
        for reserved, what in served.RESERVED.items()
        if path != "/" and routes.meet(path, reserved)
    ]
    named = [*_paths(app, one), (f"app.{app}.health.path", one["health"]["path"])]
    for where, other in named:
        if not other.startswith(path):
            found.append(f"{where}: is not below app.{app}.site.path, {path}; expected a path below it")
    return found


def _paths(app: str, one: Settings) -> Iterator[tuple[str, str]]:
    """Yield the settings that name paths of an app's site, and the paths."""
    site = one["site"]
    for word in ("serve", "routes"):
        yield from ((f"app.{app}.site.{word}.{path}", path) for path in sorted(site[word]))
    for path in sorted(site["redirects"]["paths"]):
        if path != "/":
            yield f"app.{app}.site.redirects.paths.{path}", path


def _between(first: str, one: Settings, second: str, other: Settings, domain: str) -> list[str]:
    """List why two apps cannot share a domain."""
    index = other["domains"].index(domain)
    if {*one["domains"]} != {*other["domains"]}:
        return [
            f"app.{second}.domains[{index}]: is also a domain of {first}, which has others beside it; apps that share "
            f"one share all; expected {', '.join(one['domains'])} for both, or no domain twice"
        ]
    own = one["site"]["path"], other["site"]["path"]
    if own == ("/", "/"):
        return [
            f"app.{second}.domains[{index}]: is also a domain of {first}; expected it once, or a path of its own in "
            f"app.{second}.site.path, such as /{second}/"
        ]
    if "/" not in own and (own[0].startswith(own[1]) or own[1].startswith(own[0])):
        return [
            f"app.{second}.site.path: {own[1]} meets {own[0]}, the path of {first} at the same domain; expected "
            "paths apart from each other"
        ]
    found = []
    for app, its, neighbour, path in ((first, one, second, own[1]), (second, other, first, own[0])):
        others = [(f"app.{app}.health.path", its["health"]["path"])]
        others += [(f"app.{app}.provides.{name}.path", f"{said['path']}/") for name, said in its["provides"].items()]
        for where, below in [*_paths(app, its), *others]:
            is_met = below.startswith(path) or (below.endswith("/") and path.startswith(below))
            if path != "/" and is_met:
                found.append(
                    f"{where}: meets {path}, which is app.{neighbour}.site.path at the same domain; expected paths "
                    "apart from each other"
                )
    return found


def _whole(app: str, site: Settings, holder: str, held: Settings) -> list[str]:
    """List what an app says of domains of which another one holds the site."""
    said = {word: site.get(word) for word in WHOLE if site.get(word) != held.get(word)}
    said |= {"access": access.is_declared(site["access"]), "limits": rates.is_declared(site["limits"])}
    found = [
        f"app.{app}.site.{word}: counts for its domains as a whole, of which {holder} has the site; expected it in "
        f"app.{holder}.site.{word}"
        for word, value in sorted(said.items())
        if value
    ]
    if site["redirects"]["domains"]:
        found.append(
            f"app.{app}.site.redirects.domains: lead to domains of which {holder} has the site; expected them in "
            f"app.{holder}.site.redirects.domains"
        )
    return found
