"""The settings of all formulas on a host: checked, and completed with defaults and with what follows from others."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from saltern import etcd, firewall, inventory, networks, places, services
from saltern.apps import unknown_types
from saltern.attachments import derived
from saltern.jobs import declared as jobs
from saltern.settings.check import check
from saltern.settings.defaults import with_defaults
from saltern.settings.schema import Schema
from saltern.web import balance


def completed(
    schemas: Mapping[str, Schema],
    declared: Mapping[str, Any],
    hosts: Mapping[str, dict[str, Any]],
    minion_id: str,
    roots: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
    """Check what is declared of the formulas, and complete it.

    :param schemas: a mapping of formula to JSON Schema.
    :param declared: a mapping of formula to what is said of it.
    :param hosts: the inventory, checked: rows by host id.
    :param minion_id: the host's id.
    :param roots: directories, in the order of the pillar roots.
    :return: a mapping of formula to settings, and a list of mistakes. With mistakes the mapping is of no use.
    """
    if mistakes := check(schemas, declared):
        return {}, mistakes
    settings = {key: with_defaults(schema, declared.get(key, {})) for key, schema in schemas.items()}
    settings, mistakes = derived.derive(settings, hosts, minion_id)
    settings["etcd"] |= etcd.derived(hosts, minion_id)
    mistakes += etcd.mistakes(hosts, minion_id)
    mistakes += firewall.mistakes(settings["firewall"])
    mistakes += networks.faults("nginx.trusted_proxies", settings["nginx"]["trusted_proxies"])
    unknown = unknown_processes(settings["app"])
    # A process type that the build lacks is why none runs.
    told = {message.partition(": ")[0] for message in unknown}
    mistakes = [message for message in mistakes if message.partition(": ")[0] not in told] + unknown
    mistakes += jobs.mistakes(settings["app"])
    if not mistakes:
        settings["nginx"] |= balance.derived(settings, hosts, minion_id, roots)
        settings["firewall"]["openings"] = firewall.openings(settings, hosts, minion_id)
        roles = {"app", *(service.role for service in services.resources())}
        peers = {role: inventory.peers(hosts, minion_id, role) for role in roles}
        places.derive(settings, hosts, minion_id, peers)
    return settings, mistakes


def unknown_processes(apps: Mapping[str, Any]) -> list[str]:
    """List the process types of formations, orders and jobs that the declared builds lack.

    Not every declaration names a build's types.

    :param apps: the settings of all apps.
    :return: a message for each.
    """
    found = []
    for app, one in sorted(apps.items()):
        known = one["build"].get("processes") or []
        for setting, kind, allowed in unknown_types(one, known) if known else ():
            close = difflib.get_close_matches(kind, allowed, 1)
            meant = f"; did you mean '{close[0]}'?" if close else ""
            found.append(
                f"app.{app}.{setting}: the declared build has no such process type; expected one of "
                f"{', '.join(allowed) or 'none'}{meant}"
            )
    return found
