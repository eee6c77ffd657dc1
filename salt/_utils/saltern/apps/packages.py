"""The Debian packages that apps ask for by an Aptfile: who asks for which, and whether apt can install them."""

from collections.abc import Collection, Mapping
from typing import Any

from saltern import kept
from saltern.host import Host
from saltern.releases import store
from saltern.system import apt
from saltern.system.sizes import megabytes

KIND = "package"
Apps = Mapping[str, Mapping[str, Any]]


def declared(apps: Apps) -> dict[str, list[str]]:
    """Return the packages that declared builds ask for, with the apps of each.

    :param apps: the settings of all apps.
    """
    found: dict[str, list[str]] = {}
    for app, one in sorted(apps.items()):
        for name in one["build"].get("packages", []):
            found.setdefault(name, []).append(app)
    return found


def asked(apps: Apps) -> dict[str, list[str]]:
    """Return the packages that apps ask for, with the apps of each.

    The builds of the releases to which an app can go back count too.

    :param apps: the settings of all apps.
    """
    found = {name: set(owners) for name, owners in declared(apps).items()}
    for app in apps:
        for number in store.numbers(app):
            if store.outcome(app, number) in (store.SERVING, store.ROLLED_BACK):
                for name in of_release(app, number):
                    found.setdefault(name, set()).add(app)
    return {name: sorted(owners) for name, owners in sorted(found.items())}


def of_release(app: str, number: int) -> list[str]:
    """Return the packages that a release's build asks for.

    :param app: the app's name.
    :param number: the release's number.
    """
    sha256 = store.record(app, number).get("build")
    packages = store.build(app, sha256).get("packages") if isinstance(sha256, str) else None
    return [name for name in packages if isinstance(name, str)] if isinstance(packages, list) else []


def missing(app: str, number: int) -> list[str]:
    """Return the packages that a release's build asks for and that are not installed.

    :param app: the app's name.
    :param number: the release's number.
    """
    names = of_release(app, number)
    return sorted(set(names) - apt.installed().keys()) if names else []


def listed(apps: Apps) -> dict[str, dict[str, Any]]:
    """Return the packages that apps ask for: of each the ``apps``, and the ``installed`` version or ``None``.

    :param apps: the settings of all apps.
    """
    names = asked(apps)
    there = apt.installed() if names else {}
    return {
        name: {"apps": owners, "installed": there[name].version if name in there else None}
        for name, owners in names.items()
    }


def refusals(wanted: Mapping[str, Collection[str]], others: Collection[str], debian: str) -> list[str]:
    """List the packages that apt cannot install for apps, or only in the place of others.

    :param wanted: the packages that are to be installed for apps, with the apps of each.
    :param others: what is to be installed beside them.
    :param debian: what to call the host's Debian.
    :return: a message for each.
    """
    known = apt.known()
    found = []
    for name in sorted(wanted.keys() - known):
        near = apt.nearest(name, known) or "a package that it has (apt-cache search)"
        found.append(_told(wanted[name], f"{name}: {debian} has no such package; expected {near}"))
    if found:
        return found
    outcome = apt.simulated(sorted({*wanted, *others}))
    # What stands in the way of the others alone is none of the apps' doing: apt tells it when it installs them.
    if not (outcome.removed or outcome.reason) or (others and apt.simulated(sorted(others)).reason):
        return []
    for name in sorted(wanted):
        outcome = apt.simulated(sorted({name, *others}))
        if why := _conflict(outcome):
            found.append(_told(wanted[name], f"{name}: {why}"))
    if not found:
        owners = {owner for owners in wanted.values() for owner in owners}
        found.append(_told(owners, f"{', '.join(sorted(wanted))}: {_conflict(apt.simulated(sorted(wanted)))}"))
    return found


def _told(apps: Collection[str], what: str) -> str:
    paths = ", ".join(f"app.{app}.build" for app in sorted(apps))
    return f"{paths}: Aptfile: {what}. Change the Aptfile, and build again"


def _conflict(outcome: apt.Outcome) -> str:
    """Say what is in the way of an installation, empty where nothing is."""
    if outcome.removed:
        return f"would remove {', '.join(outcome.removed)}; expected packages that take nothing from the host"
    if outcome.reason:
        return f"cannot be installed: {outcome.reason}; expected packages that fit together"
    return ""


def note(apps: Apps, names: Collection[str]) -> None:
    """Note which packages are installed for apps, and which of these no app asks for any more.

    :param apps: the settings of all apps.
    :param names: those that this run installs for apps.
    """
    noted = kept.listed(KIND)
    if not names and not noted:
        return
    owners, there = asked(apps), apt.installed()
    for name in names:
        kept.note(KIND, name, owners[name][0], since=None)
    for name, what in noted.items():
        if name in owners:
            if what["since"] is not None or what["app"] not in owners[name]:
                kept.note(KIND, name, owners[name][0], since=None)
        elif name not in there:
            kept.forget(KIND, name)
        elif what["since"] is None:
            kept.note(KIND, name, what["app"])


def left(host: Host) -> dict[str, Any]:
    """List the packages that were installed for apps, and that none asks for any more; see ``left.orphans``."""
    noted = kept.listed(KIND)
    needed = {*asked(host.pillar["app"]), *host.pillar["base"]["packages"]} if noted else set()
    there = apt.installed() if noted else {}
    return {
        f"{KIND}:{name}": {
            "app": what["app"],
            "size": megabytes(there[name].size),
            "since": what["since"],
            "remove": f"apt-get purge {name}",
        }
        for name, what in noted.items()
        if name in there and name not in needed
    }
