"""Routes: paths of an app's site that processes of another type than ``web`` answer, or that have limits of their own.

A process type listens where it is ``web``, to which ``/`` goes, or where a route names it. Each process of such a type
has a port, in the variable ``PORT``, and is asked for its health.
"""

from collections.abc import Mapping
from typing import Any

from saltern.web import served

Settings = Mapping[str, Any]

WEB = "web"


def others(one: Settings) -> list[str]:
    """Return the process types that listen beside ``web``, sorted.

    :param one: the app's settings, with defaults.
    """
    return sorted({route["process"] for route in one["site"]["routes"].values()} - {WEB})


def listening(one: Settings) -> list[str]:
    """Return the process types whose processes have a port: ``web`` and those that a route names.

    :param one: the app's settings, with defaults.
    """
    return [WEB, *others(one)]


def health(one: Settings, kind: str) -> Settings:
    """Return how a process of a type is asked whether it can serve: as ``app.<name>.health``, or as its route says.

    :param one: the app's settings, without mistakes.
    :param kind: the process type.
    """
    own = [route["health"] for route in one["site"]["routes"].values() if route["process"] == kind and route["health"]]
    return {**one["health"], **(own[0] if own else {})}


def health_setting(app: str, one: Settings, kind: str) -> str:
    """Return the path of the setting that says for which path a process of a type is asked.

    :param app: the app's name.
    :param one: its settings, with defaults.
    :param kind: the process type.
    """
    paths = [path for path, route in sorted(one["site"]["routes"].items()) if route["process"] == kind]
    own = [path for path in paths if one["site"]["routes"][path]["health"]]
    where = f"site.routes.{(own or paths)[0]}.health" if paths and kind != WEB else "health"
    return f"app.{app}.{where}.path"


def timeout(one: Settings) -> tuple[int, str]:
    """Return the longest time that an answer of the app may take, in seconds, and the setting below the app that says
    so.

    :param one: the app's settings, with defaults.
    """
    own = [
        (route["timeout"], f"site.routes.{path}.timeout")
        for path, route in one["site"]["routes"].items()
        if "timeout" in route
    ]
    return max([(one["site"]["timeout"], "site.timeout"), *own], key=lambda each: each[0])


def covers(path: str, other: str) -> bool:
    """Tell whether a route of a path answers for another path. A path that ends with a slash counts for all below it.

    :param path: the route's.
    :param other: another path.
    """
    return other == path or (path.endswith("/") and other.startswith(path))


def mistakes(app: str, one: Settings) -> list[str]:
    """List the mistakes in an app's routes.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    found: list[str] = []
    routes = one["site"]["routes"]
    if routes and not one["formation"].get(WEB):
        found.append(
            f"app.{app}.site.routes: app.{app}.formation has no web process, to which all other paths go; expected web "
            "of 1 or more, or no routes"
        )
    for path, route in sorted(routes.items()):
        where, kind = f"app.{app}.site.routes.{path}", route["process"]
        if kind != WEB and not one["formation"].get(kind):
            found.append(
                f"{where}: no process of the type {kind} runs; expected app.{app}.formation.{kind} of 1 or more, or no "
                "route"
            )
        found += [f"{where}: {mistake}" for mistake in _hidden(app, one, path)]
        if route["strip"] and not path.endswith("/"):
            found.append(f"{where}.strip: nothing of this path would be left; expected a path that ends with a slash")
        if route["health"] and kind == WEB:
            found.append(f"{where}.health: the health of web processes is app.{app}.health; expected it there")
        first = next(other for other in sorted(routes) if routes[other]["process"] == kind)
        if route["health"] != routes[first]["health"] and kind != WEB:
            found.append(
                f"{where}.health: processes of the type {kind} are asked in one way, and "
                f"app.{app}.site.routes.{first} has another; expected the same"
            )
    for kind in others(one):
        found += _apart(app, one, kind)
    return found


def _hidden(app: str, one: Settings, path: str) -> list[str]:
    """List what a route of a path would hide, and what would hide it."""
    found = [f"is {what}; expected another path" for reserved, what in served.RESERVED.items() if meet(path, reserved)]
    if path in one["site"]["serve"]:
        found.append(f"is app.{app}.site.serve.{path} too; expected it in one of them")
    for other in sorted(one["site"]["redirects"]["paths"]):
        if other == path or (other != "/" and covers(other, path)):
            found.append(f"app.{app}.site.redirects.paths.{other} leads elsewhere before; expected one of them")
    for version, provided in sorted(one["provides"].items()):
        if covers(path, f"{provided['path']}/") or covers(path, provided["path"]):
            found.append(f"would hide app.{app}.provides.{version}; expected another path")
    if covers(path, one["health"]["path"].partition("?")[0]) and one["site"]["routes"][path]["process"] != WEB:
        found.append(f"would hide app.{app}.health.path; expected another path")
    return found


def meet(path: str, reserved: str) -> bool:
    """Tell whether a path is below another one, or above it.

    :param path: the path.
    :param reserved: the other one, which ends with a slash.
    """
    return path.startswith(reserved) or reserved.startswith(path if path.endswith("/") else f"{path}/")


def _apart(app: str, one: Settings, kind: str) -> list[str]:
    """List what is said of a process type that listens, and is for those that do not."""
    found = []
    why = f"a route of app.{app}.site.routes leads to {kind}"
    if one["count"].get(kind) == "environment":
        found.append(f"app.{app}.count.{kind}: {why}, and each app host answers it; expected host, or no count")
    for job, said in sorted(one["jobs"].items()):
        if said["process"] == kind:
            found.append(f"app.{app}.jobs.{job}.process: {why}; expected a process type without a port")
    return found


def derived(one: Settings) -> list[dict[str, Any]]:
    """Return what nginx needs of an app's routes, a path that others begin with after them.

    :param one: the app's settings, without mistakes.
    :return: for each its ``path``, the regular expression of its ``start`` as a client writes it, the ``process`` type,
        whether the path is to ``strip``, ``body_size``, ``timeout``, ``idle`` and ``buffering``.
    """
    site = one["site"]
    words = ("body_size", "timeout", "buffering")
    return [
        {word: site[word] for word in words}
        | {word: value for word, value in route.items() if word != "health"}
        | {"path": path, "start": served.pattern(path.rstrip("/"))}
        for path, route in sorted(site["routes"].items(), key=lambda item: (-len(item[0]), item[0]))
    ]
