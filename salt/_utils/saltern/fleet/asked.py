"""What an orchestration is asked, judged before it asks any host."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

EXAMPLES = {"app": "tickets", "environment": "production"}


def mistakes(
    asked: Mapping[str, Any], hosts: Any, words: Sequence[str], options: Mapping[str, type] | None = None
) -> list[str]:
    """List what is wrong with what an orchestration was asked, or with the inventory that it is to use.

    :param asked: the orchestration's pillar.
    :param hosts: what ``pillar/hosts.yaml`` says.
    :param words: what the pillar must say, as text.
    :param options: what it may say besides, and of which type.
    :return: a message for each mistake.
    """
    return unreadable(hosts) or misasked(asked, hosts, words, options or {})


def unreadable(hosts: Any) -> list[str]:
    """Say that the inventory cannot be used.

    :param hosts: what ``pillar/hosts.yaml`` says.
    :return: a list with one message. Empty where each row has what orchestrations need.
    """
    rows = list(hosts.values()) if isinstance(hosts, dict) else [None]
    if all(isinstance(row, dict) and _is_complete(row) for row in rows):
        return []
    return ["pillar/hosts.yaml: cannot be read as rows of hosts; salt-call state.apply on this master says where"]


def _is_complete(row: Mapping[str, Any]) -> bool:
    roles = row.get("roles")
    is_list = isinstance(roles, list) and all(isinstance(role, str) for role in roles)
    return is_list and isinstance(row.get("environment"), str)


def misasked(
    asked: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    words: Sequence[str],
    options: Mapping[str, type],
) -> list[str]:
    """List what is wrong with what an orchestration was asked; see ``mistakes``."""
    environments = sorted({row["environment"] for row in hosts.values()})
    example = json.dumps({word: EXAMPLES[word] for word in words})
    found = [f"{word}: missing; expected pillar='{example}'" for word in words if not isinstance(asked.get(word), str)]
    if not found and asked["environment"] not in environments:
        found.append(f"environment: no host is in {asked['environment']}; expected one of {', '.join(environments)}")
    known = ", ".join([*words, *options])
    found += [f"{word}: is no option here; expected one of {known}" for word in asked.keys() - {*words, *options}]
    if type(asked.get("batch", 1)) is not int or asked.get("batch", 1) < 1:
        found.append("batch: expected how many app hosts at once, a number of 1 or more")
    switches = [word for word, kind in options.items() if kind is bool and type(asked.get(word, False)) is not bool]
    return found + [f"{word}: expected True or False" for word in switches]
