"""What an app can attach: one module and one class for each service.

The modules of this package are looked through for their classes, so that a new service is a module here and a formula
of its name. No other code names a service.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.services.base import Service
from saltern.services.resource import Resource

__all__ = ["Resource", "Service", "attachable", "formula", "formulas", "listed", "named", "on", "parted", "resources"]


@functools.cache
def listed() -> Mapping[str, Service]:
    """Return the services by the word that an app's ``attach`` has for each, sorted."""
    found: dict[str, Service] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for _, member in inspect.getmembers(loaded, inspect.isclass):
            if member.__module__ == loaded.__name__ and issubclass(member, Service) and not inspect.isabstract(member):
                service = member()
                if service.kind in found:
                    raise RuntimeError(f"{loaded.__name__}: {service.kind} is the word of another service too")
                found[service.kind] = service
    return MappingProxyType(dict(sorted(found.items())))


def resources() -> list[Resource]:
    """Return the services that make something of a name for an app, such as a database, sorted by their word."""
    return [service for service in listed().values() if isinstance(service, Resource)]


def formulas() -> Mapping[str, Resource]:
    """Return the services that have a formula, by its name."""
    return {service.kind: service for service in resources()}


def formula(kind: str) -> Resource:
    """Return the service that has a formula of this name.

    :param kind: its name, as somebody typed it.
    :raises CommandExecutionError: when there is none.
    """
    if kind not in formulas():
        raise CommandExecutionError(f"{kind}: no service has this name; expected one of {', '.join(formulas())}")
    return formulas()[kind]


def on(roles: Iterable[str]) -> list[Resource]:
    """Return the services that a host provides to apps.

    :param roles: the host's.
    """
    there = set(roles)
    return [service for service in resources() if service.role in there]


def parted(target: Mapping[str, Any]) -> tuple[list[Service], bool]:
    """Return the services that an attachment names, and whether another one, a URL, takes their place.

    :param target: one entry of an app's ``attach``.
    """
    there = [service for kind, service in listed().items() if kind in target]
    derived = [service for service in there if not service.replaces]
    return derived, len(derived) < len(there)


def named(target: Mapping[str, Any]) -> Service | None:
    """Return the service of an attachment that is derived; ``None`` where it has a URL, or is none.

    :param target: one entry of an app's ``attach``.
    """
    derived, is_replaced = parted(target)
    return derived[0] if len(derived) == 1 and not is_replaced else None


def attachable() -> dict[str, Any]:
    """Return what an app may say of an attachment: JSON Schemas by word."""
    return {word: part for service in listed().values() for word, part in service.schema.items()}
