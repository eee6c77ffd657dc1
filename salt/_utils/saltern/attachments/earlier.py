"""Attachments of earlier releases, as they are today."""

import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from saltern import services
from saltern.attachments import parts
from saltern.attachments.config import targets, url
from saltern.host import Host
from saltern.releases import store
from saltern.services.base import Target
from saltern.services.resource import Resource


def renewed(host: Host, app: str, number: int, current: int) -> tuple[dict[str, str], list[str]]:
    """Work out the attachments of an earlier release as they are today: its own may no longer be valid.

    :param host: the host.
    :param app: the app's name.
    :param number: the release.
    :param current: the release that serves. What it has of the same attachment works.
    :return: value by variable, and a sentence for each attachment that is not there any more.
    """
    variables = _texts(app, current)
    works = {
        _what(target): parts.read(variable, target, variables)
        for variable, target in _attached(host, app, current).items()
    }
    today = list(targets(host, app).values())
    had = _texts(app, number)
    values: dict[str, str] = {}
    missing: list[str] = []
    for variable, target in sorted(_attached(host, app, number).items()):
        service = services.named(target)
        if service is None:
            missing.append(f"{', '.join(target)} is no service any more, which it has as {variable}")
            continue
        reason = service.missing(target, host.pillar["app"], today)
        address = "" if reason else works.get(_what(target), "")
        if not address and (reason := reason or _unready(host, target, app)):
            missing.append(f"{reason}, which it has as {variable}")
            continue
        if not address:
            declared = service.renewed(target, host.attach(app).values(), host.pillar["app"])
            address = url(declared, app, host.secret(declared, app))
        renewals = parts.variables(variable, target, address)
        # What was taken out of its config by hand stays out.
        values |= {name: value for name, value in renewals.items() if name in had}
    return values, missing


def _what(target: Target) -> str:
    """Return what an attachment leads to, in whatever form the app gets it."""
    return str({word: value for word, value in target.items() if word != "as"})


def _texts(app: str, number: int) -> dict[str, str]:
    """Return the config of a release, as text by variable."""
    variables = store.environ(app, number)
    return {variable: value.decode("utf-8", "replace") for variable, value in variables.items()}


def shared(host: Host, app: str, number: int) -> list[str]:
    """List the variables by which a release has the same attachments as are declared, be their passwords others.

    :param host: the host.
    :param app: the app's name.
    :param number: the release.
    """
    today = targets(host, app)
    return sorted(
        name
        for variable, target in _attached(host, app, number).items()
        if today.get(variable) == target
        for name in parts.names(variable, target)
    )


def _attached(host: Host, app: str, number: int) -> dict[str, Target]:
    """Return what a release has attached, by variable; one of before that was written down, as far as its URLs tell."""
    record = store.record(app, number)
    variables = store.environ(app, number)
    if "attached" in record:
        texts = _texts(app, number)
        return {
            variable: target for variable, target in record["attached"].items() if parts.read(variable, target, texts)
        }
    found = {
        variable: target
        for variable, value in variables.items()
        if (target := told(value.decode("utf-8", "replace"), app, host.pillar))
    }
    # That an URL is another app's, nothing in it tells.
    others = {
        variable: target
        for variable, target in targets(host, app).items()
        if variable in variables and not isinstance(services.named(target), Resource)
    }
    return found | others


def told(value: str, app: str, settings: Mapping[str, Any]) -> Target:
    """Tell what a URL that was derived for an app leads to.

    :param value: a variable's value.
    :param app: the app's name.
    :param settings: a mapping of formula to settings, complete.
    :return: such as ``{'postgres': 'tickets'}``; empty where it was not derived.
    """
    with contextlib.suppress(ValueError):
        where = urlsplit(value)
        for service in services.resources():
            if name := service.told(where, app, settings[service.kind]):
                return {service.kind: name}
    return {}


def _unready(host: Host, target: Target, app: str) -> str:
    """Say what of a host is declared and not made yet; empty where nothing is."""
    service = services.named(target)
    if not isinstance(service, Resource) or service.role not in host.roles:
        return ""
    name = target[service.kind]
    is_there = service.lends if "access" in target else service.is_ready
    is_ready = is_there(host, name, lambda: service.login(app, host.secret(target, app)))
    return "" if is_ready else f"the {service.noun} {name} is not as declared yet"
