"""How settings are named and described, in words. No message has a value: it may be a secret."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from saltern.settings.schema import Schema

# JSON Schema's words for what YAML calls otherwise.
TYPES = {"object": "mapping", "array": "list", "null": "nothing"}


def dotted(path: Iterable[Any]) -> str:
    """Write a path as people read it.

    :param path: keys and list indexes, outermost first.
    :return: such as ``app.tickets.domains[0]``.
    """
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        else:
            # A key is no secret, but it may be anything: keep a message on one line, and its ends in sight.
            name = str(part).encode("unicode_escape").decode("ascii")
            name = name if len(name) <= 80 else name[:77] + "..."
            text += f".{name}" if name and " " not in name else f".'{name}'"
    return text.removeprefix(".")


def expected(schema: Schema) -> str:
    """Say what a schema expects, in words.

    :param schema: a JSON Schema.
    :return: such as ``expected integer from 0 to 49 (Processes of this type)``.
    """
    # Where names are free, it is the names that x-expected speaks of.
    if "x-expected" in schema and "patternProperties" not in schema:
        return f"expected {schema['x-expected']}"
    named = str(schema.get("type", "something else"))
    words = TYPES.get(named, named)
    if "enum" in schema:
        words = f"one of {', '.join(str(v) for v in schema['enum'])}"
    if "minimum" in schema and "maximum" in schema:
        words += f" from {schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        words += f" of {schema['minimum']} or more"
    if "maxLength" in schema:
        words += f" of at most {schema['maxLength']} characters"
    if schema.get("minItems") or schema.get("minProperties"):
        words += " that is not empty"
    if schema.get("uniqueItems"):
        words += " without repeats"
    about = " ".join(schema.get("description", "").split()).rstrip(".")
    return f"expected {words}" + (f" ({about})" if about else "")


def kind(value: Any) -> str:
    if isinstance(value, dict):
        return "mapping"
    if isinstance(value, list):
        return "list"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "nothing"}
    return kinds.get(type(value), "date")
