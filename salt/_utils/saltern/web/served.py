"""Files that nginx serves by itself, at paths of an app's site: which they are, and how."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from saltern import services

Settings = Mapping[str, Any]

# Paths of every site that are not the app's.
RESERVED = {"/.saltern/": "Saltern's own", "/.well-known/acme-challenge/": "where an authority asks for a certificate"}

# What may stand in nginx's configuration as it is. All else of a path means the same when it is encoded.
PLAIN = "/?&=%:@!*'(),+~-._"


def encoded(path: str) -> str:
    """Write a path and its query as nginx's configuration may have them.

    :param path: as it is asked for.
    """
    return quote(path, safe=PLAIN)


def pattern(path: str) -> str:
    """Write a regular expression for a path and its query, between nginx's quotes.

    :param path: as it is asked for.
    """
    return re.sub(r"[.?*+()]", r"[\g<0>]", encoded(path))


def mistakes(app: str, one: Settings) -> list[str]:
    """List the mistakes in what nginx shall serve of an app.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    found = []
    paths = sorted(one["site"]["serve"])
    for path in paths:
        where, served = f"app.{app}.site.serve.{path}", one["site"]["serve"][path]
        for reserved, what in RESERVED.items():
            if path.startswith(reserved):
                found.append(f"{where}: is {what}; expected another path")
        for other in paths:
            if path != other and path.startswith(other):
                found.append(f"{where}: is below {other}, which is served too; expected paths apart from each other")
        for version, provided in sorted(one["provides"].items()):
            if f"{provided['path']}/".startswith(path):
                found.append(f"{where}: would hide app.{app}.provides.{version}; expected another path")
        if ("build" in served) == bool(_resources(served)):
            found.append(f"{where}: expected one place of files, such as {{build: static}} or {{storage: media}}")
        if "build" in served and served["internal"]:
            found.append(f"{where}.internal: what a build has is for everybody; expected it beside a storage")
        if served["internal"] and "cache" in served:
            found.append(f"{where}.cache: is the app's to say, in the answer that permits a file; expected none")
        found += _unattached(app, one, where, served)
    directories = sorted({served["build"] for served in one["site"]["serve"].values() if "build" in served})
    for status, page in sorted(one["site"]["errors"].items()):
        if not any(page.startswith(f"{directory}/") for directory in directories):
            place = f"below {' or '.join(directories)}" if directories else f"and its directory in app.{app}.site.serve"
            found.append(f"app.{app}.site.errors.{status}: nginx reads no such file of the build; expected one {place}")
    return found


def _unattached(app: str, one: Settings, where: str, served: Settings) -> list[str]:
    """Refuse what the app does not attach."""
    found = []
    for service, name in _resources(served):
        own = {target[service.kind] for target in one["attach"].values() if service.kind in target}
        if name not in own:
            known = f"one of {', '.join(sorted(own))}" if own else f"one that {app} attaches"
            found.append(f"{where}.{service.kind}: {app} attaches no {service.noun} of this name; expected {known}")
    return found


def _resources(served: Settings) -> list[tuple[services.Resource, str]]:
    return [(service, served[service.kind]) for service in services.resources() if service.kind in served]


def locations(one: Settings) -> list[dict[str, Any]]:
    """Return what nginx serves of an app's files, sorted by path. What a URL replaces is left out.

    :param one: the app's settings, without mistakes.
    :return: for each its ``path``, the ``directory`` of its files, whether it is ``internal``: for files that the app
        must permit first, how a browser may keep them, ``cache``, and ``hidden``, a regular expression of paths that
        it does not have. For files of builds, the ``directory`` is a build's, of the last ``releases``.
    """
    replaced = {
        (service.kind, target[service.kind])
        for target in one["attach"].values()
        for service in services.resources()
        if service.kind in target and services.parted(target)[1]
    }
    found = []
    for path, served in sorted(one["site"]["serve"].items()):
        seconds = served.get("cache", 0)
        cache = f"public, max-age={seconds}" if seconds else "no-cache"
        if "build" in served:
            location = {"path": path, "directory": served["build"], "internal": False, "cache": cache}
            found.append(location | {"hidden": _hidden(path, "(?!well-known/)"), "releases": one["keep_releases"]})
        for service, name in _resources(served):
            if (service.kind, name) not in replaced:
                found.append(
                    {
                        "path": path,
                        "directory": service.directory(name),
                        "internal": served["internal"],
                        "cache": "private, no-cache" if served["internal"] else cache,
                        "hidden": _hidden(path),
                    }
                )
    return found


def _hidden(path: str, but: str = "") -> str:
    """Write a regular expression of what is below a path, and has a name that begins with a dot.

    Version control and editors leave such files behind, and no page has such a name.

    :param but: what may follow the dot all the same, as a lookahead.
    """
    return f"(?s)^{pattern(path)}(.*/)?[.]{but}"


def told(one: Settings) -> list[str]:
    """Return the names of the headers for browsers that have a value, sorted.

    :param one: the app's settings, with defaults.
    """
    return sorted(name for name, value in one["site"]["headers"].items() if value)


def pages(one: Settings) -> list[dict[str, Any]]:
    """Return the app's own pages of errors, sorted by status.

    :param one: the app's settings, without mistakes.
    :return: for each its ``status``, the ``file`` of the build, and how many ``releases`` are looked into for it.
    """
    errors = sorted(one["site"]["errors"].items())
    return [{"status": int(status), "file": page, "releases": one["keep_releases"]} for status, page in errors]


def note(settings: Mapping[str, Any]) -> None:
    """Note which resources nginx serves files of, as ``served``.

    :param settings: a mapping of formula to settings, with the owners of resources.
    """
    for one in settings["app"].values():
        for served in one["site"]["serve"].values() if one["formation"].get("web") else ():
            for service, name in _resources(served):
                if name in settings[service.kind][service.plural]:
                    settings[service.kind][service.plural][name]["served"] = True
