"""Which settings may be encrypted: what they are called stands where the hosts read it."""

import re
from collections.abc import Mapping
from typing import Any

from saltern.refusal import Refusal
from saltern.settings.check import check
from saltern.settings.schema import Schema


def judge_name(schemas: Mapping[str, Schema], name: str) -> None:
    """Refuse a name that is not that of a text which an environment may set.

    :param schemas: a mapping of formula to JSON Schema.
    :param name: a setting's path, such as ``app.tickets.config.SECRET_KEY``.
    :raises Refusal: with what was expected.
    """
    if not all(name.split(".")):
        raise Refusal("NAME: no setting's path; expected one such as app.tickets.config.SECRET_KEY")
    schema: Any = {"properties": schemas}
    varies = False
    for key in name.split("."):
        patterns = schema.get("patternProperties", {}).items()
        part = schema.get("properties", {}).get(key)
        schema = part or next((part for pattern, part in patterns if re.search(pattern, key)), None)
        if schema is None:
            return judge_value(schemas, name, "")
        varies = varies or schema.get("varies", False)
    if schema.get("type") != "string":
        raise Refusal(f"{name}: only text can be encrypted; expected the path of a text in it")
    if not varies:
        raise Refusal(f"{name}: is the same in every environment; expected it in pillar/common.sls")


def judge_value(schemas: Mapping[str, Schema], name: str, value: str) -> None:
    """Refuse a value that the setting's schema does not accept.

    :param schemas: a mapping of formula to JSON Schema.
    :param name: a setting's path.
    :param value: text. No message holds it.
    :raises Refusal: with what was expected.
    """
    tree: Any = value
    for key in reversed(name.split(".")):
        tree = {key: tree}
    messages = [(message.partition(": ")[0], message) for message in check(schemas, tree)]
    found = [message for path, message in messages if path == name or name.startswith(f"{path}.")]
    if found:
        raise Refusal("\n".join(found))
