"""Whether a build keeps what other apps of its environment use of it."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from salt.exceptions import CommandExecutionError

from saltern.attachments import parts
from saltern.attachments.derived import attached as declared
from saltern.contracts import compare, openapi
from saltern.host import Host
from saltern.releases import process, store
from saltern.services.base import LOOPBACK

# Bytes of an OpenAPI document, four for each of the characters that it may have.
MAX_DOCUMENT = 8_000_000
# How many of a document's breaks are told.
TOLD = 3

# Who uses a version: app, or app and release, and variable.
Use = tuple[str, str]
Provided = Mapping[str, Mapping[str, Any]]


def path(version: str) -> str:
    """Return where the document of a version lies in a build.

    :param version: such as ``v1``.
    """
    return f"openapi/{version}.yaml"


def judge(
    host: Host, app: str, sha256: str, build: Mapping[str, Any], read: Callable[[str], str] | None = None
) -> None:
    """Refuse a build that lacks a document which it must have, or that takes away what another app uses.

    :param host: the host.
    :param app: the app's name.
    :param sha256: the build's digest.
    :param build: what the build says of itself.
    :param read: a function that returns the text of a version's document; of a build on the host it is not needed.
    :raises CommandExecutionError: with a line for each mistake.
    """
    provides = host.pillar["app"][app]["provides"]
    read = read or (lambda version: text(app, sha256, version))
    current = store.current(app)
    record = store.record(app, current) if current is not None else {}
    live = store.build(app, record.get("build", "")) if record else {}
    before, after = live.get("contracts") or {}, build.get("contracts") or {}
    uses = attached(host.pillar["app"], app)
    is_new = record.get("build") != sha256
    if is_new:
        for version, running in _running(host, app, record.get("provides") or {}).items():
            known = {(who.partition(" ")[0], variable) for who, variable in uses.get(version, [])}
            others = [use for use in running if (use[0].partition(" ")[0], use[1]) not in known]
            uses.setdefault(version, []).extend(others)

    def breaks(version: str) -> list[str]:
        if not is_new:
            return []
        old, new = text(app, record["build"], version), read(version)
        return [] if old == new else list(judged_by(compare.broken, version, old, new))

    def names(version: str) -> Sequence[str]:
        return list(judged_by(openapi.described, version, read(version)))

    def judged_by(function: Callable[..., Any], version: str, *documents: str) -> Any:
        try:
            return function(*documents)
        except ValueError as error:
            raise CommandExecutionError(f"app.{app}.build: {path(version)}: {error}; build it again") from error

    found = mistakes(app, provides, sha256, uses, before, after, breaks)
    provided = {version: its["path"] for version, its in provides.items()}
    if not found and (is_new or record.get("provides") != provided):
        found = _misplaced(app, provides, names)
    if found:
        raise CommandExecutionError("\n".join(found))


def attached(apps: Mapping[str, Any], provider: str) -> dict[str, list[Use]]:
    """List who attaches an app as a service: app and variable, by version.

    :param apps: the settings of all apps of the environment.
    :param provider: the app's name.
    """
    found: dict[str, list[Use]] = {}
    for app, variable, target in declared(apps, "service"):
        if target["service"] == provider:
            found.setdefault(target["version"], []).append((app, variable))
    return found


def mistakes(
    app: str,
    provides: Provided,
    sha256: str,
    uses: Mapping[str, Sequence[Use]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    breaks: Callable[[str], Sequence[str]],
) -> list[str]:
    """List why a build cannot be taken.

    :param app: the app's name.
    :param provides: the versions that are declared.
    :param sha256: the build's digest.
    :param uses: who uses a version, and as which variable. A release that still runs, as ``tickets v3``.
    :param before: the versions that the build of the serving release has a document of.
    :param after: those that this one has.
    :param breaks: a function that says what the new document of a version takes away.
    :return: a message for each.
    """
    found = []
    for version in sorted(provides.keys() | uses.keys()):
        users = uses.get(version, [])
        reasons = breaks(version) if users and version in before and version in after else []
        if version not in after and (version not in before or not users):
            if version in provides:
                found.append(
                    f"app.{app}.provides.{version}: build {sha256[:12]} has no {path(version)}; expected the OpenAPI "
                    "document of that version in the app's tree, and a build that bin/build made of it"
                )
            continue
        if version in after and not reasons:
            continue
        verb, kept = ("breaks", "keeps it and adds another version") if reasons else ("drops", "keeps it")
        more = f" and {len(reasons) - TOLD} more" if reasons[TOLD:] else ""
        what = f": {'; '.join(reasons[:TOLD])}{more}" if reasons else ""
        for who, variable in users:
            runs = " " in who
            use = f"{who} {'still has' if runs else 'attaches'} as {variable}"
            end = f"{kept} until that release is gone" if runs else f"{kept}, or detach it first"
            found.append(f"app.{app}.build: {verb} {version}, which {use}{what}; expected a build that {end}")
    return found


def _misplaced(app: str, provides: Provided, operations: Callable[[str], Sequence[str]]) -> list[str]:
    """List the versions whose URL leads to nothing that their document describes."""
    return [
        f"app.{app}.provides.{version}.path: nothing of {path(version)} is below it; expected what its paths start with"
        for version, one in sorted(provides.items())
        if not any(name.partition(" ")[2].startswith(f"{one['path']}/") for name in operations(version))
    ]


def text(app: str, sha256: str, version: str) -> str:
    """Return the text of a version's document in a build on the host; see ``text_of``.

    :param app: the app's name.
    :param sha256: the build's digest.
    :param version: such as ``v1``.
    """
    return text_of(app, store.build_directory(app, sha256), version)


def text_of(app: str, directory: str, version: str) -> str:
    """Return the text of a version's document, as it lies in a build.

    :param app: the app's name.
    :param directory: the build's.
    :param version: such as ``v1``.
    :raises CommandExecutionError: when it cannot be read.
    """
    try:
        with open(f"{directory}/{path(version)}", "rb") as stream:
            # More than this openapi.parse refuses.
            return stream.read(MAX_DOCUMENT + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandExecutionError(
            f"app.{app}.build: {path(version)}: cannot be read ({type(error).__name__}); expected a file in UTF-8; "
            "build it again"
        ) from error


def _running(host: Host, app: str, provided: Mapping[str, str]) -> dict[str, list[Use]]:
    """List the releases of other apps on this host that have a version in their config, by version."""
    settings = host.pillar["app"][app]
    # The serving release still knows the path of a version that is no longer declared.
    paths = dict(provided) | {version: its["path"] for version, its in settings["provides"].items()}
    own = (LOOPBACK, host.address)
    found: dict[str, list[Use]] = {}
    for other, number in process.releases():
        if other == app or _has_left(host, app, other, number):
            continue
        attached = store.record(other, number).get("attached") or {}
        for variable, value in sorted(parts.urls(store.environ(other, number), attached)):
            with contextlib.suppress(ValueError):
                where = urlsplit(value)
                if where.hostname in own and where.port == settings["port"]:
                    versions = [version for version, its in paths.items() if where.path.rstrip("/") == its]
                    for version in versions:
                        found.setdefault(version, []).append((f"{other} v{number}", variable))
    return found


def _has_left(host: Host, app: str, other: str, number: int) -> bool:
    """Tell in a dry run whether another app's release would be gone when it is this one's turn."""
    if not host.is_dry or other not in host.pillar["app"]:
        return host.is_dry
    # The apps have their turns by name.
    with contextlib.suppress(CommandExecutionError):
        return other < app and bool(host.ask("release.plan", other)["number"] != number)
    return False


def dropped(host: Host, app: str, sha256: str) -> list[str]:
    """List the attached versions of which a build on the host has no document.

    :param host: the host.
    :param app: the app's name.
    :param sha256: the build's digest.
    :return: for each, which it is and who attaches it.
    """
    known = store.build(app, sha256).get("contracts")
    uses = attached(host.pillar["app"], app) if known is not None else {}
    # A build of an earlier version does not know its contracts.
    known = known or {}
    return [
        f"{version}, which {who} attaches as {variable}"
        for version in sorted(uses.keys() - known.keys())
        for who, variable in uses[version]
    ]
