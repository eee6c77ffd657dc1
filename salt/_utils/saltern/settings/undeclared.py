"""What a pillar file says of an app, or of a resource, that is not declared: which file, and what removes it there."""

import difflib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import salt.utils.yaml

from saltern import environments
from saltern.attachments import derived
from saltern.settings.files import is_plain
from saltern.settings.messages import dotted

APP_NAME = re.compile("[a-z][a-z0-9-]*")

# What the files of one environment may say of an app, and what removes it there. {env} and {app} are put in.
OF_AN_APP = {
    "environments": ("has settings of an app", "remove app.{app} from this file"),
    "builds": ("declares a build of an app", "remove the build with make build-forget APP={app} ENV={env}"),
    "secrets": ("has secrets of an app", "remove them with make secret-remove ENV={env} NAME=app.{app}"),
}


def apps(roots: Sequence[str], environment: str, declared: Mapping[str, Any]) -> dict[str, list[str]]:
    """Find the apps that an environment's files name and ``common.sls`` does not: an app may be removed there alone.

    :param roots: directories, in the order of the pillar roots.
    :param environment: its name.
    :param declared: what all files say of the formulas.
    :return: by app, a message for each file that names it.
    """
    found: dict[str, list[str]] = {}
    known = _named_apps(roots, "common.sls", declared)
    for kind, (what, removal) in OF_AN_APP.items():
        if kind == "secrets" and environments.is_ephemeral(roots, environment):
            # The secrets of such an environment are not encrypted, and are edited by hand.
            removal = OF_AN_APP["environments"][1]
        for app in sorted(_named_apps(roots, f"{kind}/{environment}.sls") - known):
            # What is no name of an app must not be a word of a command.
            way = removal if APP_NAME.fullmatch(app) else "remove the name from this file"
            close = difflib.get_close_matches(app, sorted(known), 1, cutoff=0.8)
            meant = f"did you mean app.{close[0]}? Otherwise" if close else "expected the app there too, or else"
            found.setdefault(app, []).append(
                f"{dotted(['app', app])}: pillar/{kind}/{environment}.sls {what} that pillar/common.sls does not "
                f"declare; {meant} {way.format(app=app, env=environment)}"
            )
    return found


def located(message: str, roots: Sequence[str], names: Sequence[str], environment: str) -> str:
    """Add to a message about a resource that no app attaches the files that name it, and what removes it there.

    :param message: any message; others are returned as they are.
    :param roots: directories, in the order of the pillar roots.
    :param names: the names of files below these.
    :param environment: whose files these are.
    """
    path, told, _ = message.partition(derived.UNATTACHED)
    if not told:
        return message
    removals = []
    for root, name in itertools.product(roots, names):
        content: Any = None
        if os.path.exists(file := os.path.join(root, name)):
            with open(file, encoding="utf-8") as stream:
                text = stream.read()
            content = salt.utils.yaml.safe_load(text) if is_plain(text) else None
        for key in path.split("."):
            content = content.get(key) if isinstance(content, dict) else None
        if content is not None:
            is_encrypted = name.startswith("secrets/") and not environments.is_ephemeral(roots, environment)
            by = f" with make secret-remove ENV={environment} NAME={path}" if is_encrypted else ""
            removals.append(f"remove it from pillar/{name}{by}")
    return "; ".join([message, *removals])


def _named_apps(roots: Sequence[str], name: str, rendered: Mapping[str, Any] | None = None) -> set[str]:
    """Return the names of the apps in a pillar file.

    :param name: the name of a file below the roots; it need not be there.
    :param rendered: what the pillar says. A file with Jinja names those of its apps that have a port.
    """
    named: set[str] = set()
    for root in roots:
        path = os.path.join(root, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            content = salt.utils.yaml.safe_load(text) if is_plain(text) else None
            apps = content.get("app") if isinstance(content, dict) else None
            named |= {app for app in apps if isinstance(app, str)} if isinstance(apps, dict) else set()
            if not is_plain(text) and rendered and isinstance(rendered.get("app"), dict):
                apps = rendered["app"].items()
                named |= {app for app, one in apps if isinstance(one, dict) and "port" in one}
    return named
