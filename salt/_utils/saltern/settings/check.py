"""Settings are checked against their schemas (JSON Schema, draft 2020-12): the library validates, the words are ours.

``jsonschema`` is imported when something is checked: a run on a master's minion need not wait for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from saltern.settings.messages import dotted, expected, kind
from saltern.settings.schema import Schema, all_in_full


def check(schemas: Mapping[str, Schema], settings: Mapping[str, Any]) -> list[str]:
    """List the mistakes in settings, by path.

    :param schemas: a mapping of formula to JSON Schema.
    :param settings: a mapping of formula to what the pillar says.
    :return: a message for each mistake, sorted by path.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    # JSON Schema takes 8100.0 for an integer. YAML tells them apart, and so do nginx and PostgreSQL.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator: Any = extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]
    # The library would read a schema that names its dialect with the dialect's own types.
    schemas = {
        key: {word: part for word, part in schema.items() if word != "$schema"} for key, schema in schemas.items()
    }
    whole = {"type": "object", "properties": schemas, "additionalProperties": False}
    # A formula that the pillar does not mention must still have what it requires.
    found: dict[str, str] = {}
    named = _with_names(settings, [], found)
    asked = {key: {} for key in schemas} | {key: all_in_full(schemas.get(key, {}), named[key]) for key in named}
    for error in validator(whole).iter_errors(asked):
        for path, message in _messages(error):
            found.setdefault(path, message)
    return [f"{path}: {message}" for path, message in sorted(found.items())]


def _with_names(value: Any, path: list[Any], found: dict[str, str]) -> Any:
    """Return a value without the keys that YAML does not read as text, such as ``on`` and ``1``, and note these."""
    if isinstance(value, list):
        return [_with_names(item, [*path, index], found) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    for key in value:
        if not isinstance(key, str):
            found[dotted([*path, str(key)])] = f"YAML reads this name as {kind(key)}; expected text; put it in quotes"
    return {key: _with_names(item, [*path, key], found) for key, item in value.items() if isinstance(key, str)}


def _messages(error: Any) -> Iterator[tuple[str, str]]:
    """Yield (path, message) for an error of the jsonschema library."""
    path = list(error.absolute_path)
    keyword, schema, instance = error.validator, error.schema, error.instance
    if keyword == "additionalProperties":
        # x-names: names that are usual where any may be given.
        known = [*schema.get("properties", {}), *schema.get("x-names", [])]
        patterns = list(schema.get("patternProperties", {}))
        for key in instance:
            if key in schema.get("properties", {}) or any(re.search(p, key) for p in patterns):
                continue
            # x-moved: former names, and what they are called now.
            now = schema.get("x-moved", {}).get(key)
            yield dotted([*path, key]), f"is called '{now}' now; rename it" if now else _unknown(key, known, schema)
    elif keyword == "required":
        for key in error.validator_value:
            if key not in instance:
                yield dotted([*path, key]), f"missing; {expected(schema.get('properties', {}).get(key, {}))}"
    elif keyword == "type":
        hint = "; put it in quotes" if schema.get("type") == "string" and _is_scalar(instance) else ""
        yield dotted(path), f"found {kind(instance)}; {expected(schema)}{hint}"
    elif keyword == "enum":
        close = difflib.get_close_matches(str(instance), [str(v) for v in error.validator_value], 1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        yield dotted(path), f"expected one of {', '.join(str(v) for v in error.validator_value)}{meant}"
    elif keyword == "maxLength" and "x-expected" in schema:
        yield dotted(path), f"is too long; expected at most {schema['maxLength']} characters"
    else:
        yield dotted(path), f"not acceptable; {expected(schema)}"


def _unknown(key: str, known: Iterable[str], schema: Schema) -> str:
    close = difflib.get_close_matches(key, known, 1)
    if schema.get("patternProperties") and not (close and close[0] in schema.get("properties", {})):
        # A usual name tells less than what names may be: it is an example.
        meant = f"; did you mean '{close[0]}'?" if close else ""
        return f"a name that cannot be used here; expected {schema.get('x-expected', 'another name')}{meant}"
    if close:
        return f"unknown setting; did you mean '{close[0]}'?"
    return f"unknown setting; expected one of {', '.join(sorted(known)) or 'none'}"


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, list | dict | type(None))
