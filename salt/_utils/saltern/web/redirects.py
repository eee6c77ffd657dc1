"""Redirects of an app's site: whole domains to the app's first one, and paths to other addresses."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from saltern.web import served
from saltern.web.domains import is_covered

Settings = Mapping[str, Any]

# How often a redirect may lead to another one before it counts as a loop.
HOPS = 10
STATUS = 308


def names(one: Settings) -> list[str]:
    """List the domains that lead to an app, and that its certificate is for: its own ones first.

    :param one: the app's settings, with defaults.
    """
    return [*one["domains"], *one["site"]["redirects"]["domains"]]


def mistakes(app: str, one: Settings) -> list[str]:
    """List the mistakes in an app's redirects.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    where, redirects = f"app.{app}.site.redirects", one["site"]["redirects"]
    found = []
    if redirects["domains"] and not one["domains"]:
        found.append(f"{where}.domains: there is no domain to lead to; expected one in app.{app}.domains")
    paths = _targets(redirects)
    for path, (target, _) in paths.items():
        for reserved, what in served.RESERVED.items():
            if path.startswith(reserved):
                found.append(f"{where}.paths.{path}: is {what}; expected another path")
        if _is_prefix(path) and target.endswith("/") and ("?" in target or "#" in target):
            found.append(f"{where}.paths.{path}: what is below it cannot follow a ? or #; expected an address without")
        way = _way(path, paths, names(one))
        if way[-1] in way[:-1] or len(way) > HOPS:
            shown = " -> ".join(way[:4])
            found.append(f"{where}.paths.{path}: leads from one redirect to the next ({shown}); expected an end")
    return found


def _targets(redirects: Settings) -> dict[str, tuple[str, int]]:
    """Return where each path leads and by which status. A path that others begin with comes after them."""
    found = {path: (one["to"], one["status"]) for path, one in redirects["paths"].items()}
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))


def _is_prefix(path: str) -> bool:
    """Tell whether a redirect of a path counts for all below it. ``/`` is the first page alone."""
    return path.endswith("/") and path != "/"


def _is_below(path: str, other: str) -> bool:
    """Tell whether a redirect of a path counts for another path."""
    return other == path or (_is_prefix(path) and other.startswith(path))


def _way(path: str, paths: Mapping[str, tuple[str, int]], domains: list[str]) -> list[str]:
    """Return a path and those of the site to which it leads, one after the other, until one comes again."""
    way = [path]
    while len(way) <= HOPS:
        key = next((key for key in paths if _is_below(key, path)), None)
        if key is None:
            break
        target = paths[key][0]
        parts = urlsplit(target)
        if parts.netloc and not is_covered(parts.hostname or "", domains):
            break
        is_whole = _is_prefix(key) and target.endswith("/")
        path = parts.path + (path.removeprefix(key) if is_whole else "")
        way.append(path)
        if path in way[:-1]:
            break
    return way


def derived(one: Settings) -> dict[str, Any]:
    """Return what nginx needs of an app's redirects.

    :param one: the app's settings, without mistakes.
    :return: the ``domains`` that lead to the app's first one, and ``paths``: by status a list of what matches a
        request's target, a regular expression, and of the address that it leads to, empty for another status.
    """
    found: list[tuple[int, str, str]] = []
    for path, (target, status) in _targets(one["site"]["redirects"]).items():
        base = "" if urlsplit(target).netloc else "$forwarded_proto://$forwarded_host"
        pattern, rest = served.pattern(path), "$is_args$args"
        if not _is_prefix(path):
            pattern += "([?]|$)"
        elif target.endswith("/"):
            pattern, rest = f"{pattern}(?<rest_of_redirect>.*)$", "$rest_of_redirect"
        # A query of the address takes the place of the request's.
        rest = "" if "?" in target or "#" in target else rest
        found.append((status, pattern, f"{base}{target}{rest}"))
    # nginx takes the first pattern that matches: each status has those of the others too.
    paths = {
        status: [{"pattern": pattern, "target": target if own == status else ""} for own, pattern, target in found]
        for status in {status for status, _, _ in found}
    }
    return {"domains": one["site"]["redirects"]["domains"], "paths": paths}
