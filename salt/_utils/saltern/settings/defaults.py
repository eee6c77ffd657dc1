"""Settings are completed with the defaults of their schemas."""

from __future__ import annotations

import copy
from typing import Any

from saltern.settings.schema import Schema, in_full, part_of


def with_defaults(schema: Schema, value: Any) -> Any:
    """Complete a value with the defaults of its schema.

    A mapping that has settings of its own starts out empty where it is not given, so that its defaults count too.

    :param schema: a JSON Schema; its ``properties``, ``patternProperties`` and ``items`` are followed.
    :param value: a value that the schema accepts.
    :return: a new value; ``value`` is left as it is.
    """
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), item) for item in value]
    value = in_full(schema, value)
    if not isinstance(value, dict):
        return copy.deepcopy(value)
    complete = {}
    properties = schema.get("properties", {})
    for key, part in properties.items():
        if key in value:
            continue
        if "default" in part:
            complete[key] = with_defaults(part, part["default"])
        elif part.get("type") == "object" and not part.get("x-optional"):
            complete[key] = with_defaults(part, {})
    for key, item in value.items():
        complete[key] = with_defaults(part_of(schema, key), item)
    return complete
