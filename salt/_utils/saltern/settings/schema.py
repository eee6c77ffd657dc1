"""The formulas' schemas (``settings.yaml``), and what they say of a setting: whether it varies, and who is told it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from saltern.attachments.derived import with_services

Schema = dict[str, Any]

# Not a formula's: the inventory, from pillar/hosts.yaml, with a schema of its own beside the roles.
INVENTORY_KEY = "hosts"

# PyYAML's C loader is four times as fast. Not every build has it.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_schemas(roots: Iterable[str]) -> dict[str, Schema]:
    """Read the schemas below the file roots.

    :param roots: directories, in the order of the file roots.
    :return: a mapping of formula to schema, and of ``hosts`` to the inventory's.
    """
    schemas = {}
    for root in roots:
        for path in sorted(glob.glob(os.path.join(root, "*", "settings.yaml"))):
            name = os.path.basename(os.path.dirname(path))
            with open(path, encoding="utf-8") as stream:
                schemas[INVENTORY_KEY if name == "roles" else name] = yaml.load(stream, _YamlLoader)
    if "app" in schemas:
        schemas["app"] = with_services(schemas["app"])
    return schemas


def part_of(schema: Schema, key: Any) -> Schema:
    """Return the schema of a key of a mapping, empty where the mapping has no such key."""
    patterns = schema.get("patternProperties", {}).items()
    by_pattern = (part for pattern, part in patterns if re.search(pattern, str(key)))
    return schema.get("properties", {}).get(key) or next(by_pattern, {})


def in_full(schema: Schema, value: Any) -> Any:
    """Return a mapping that is said by one of its values alone as a mapping.

    :param schema: of the mapping. ``x-short`` names the key that text in the mapping's place is the value of.
    :param value: what is said.
    """
    return {schema["x-short"]: value} if "x-short" in schema and isinstance(value, str) else value


def all_in_full(schema: Schema, value: Any) -> Any:
    """Return a value with each mapping in it that is said by one of its values alone as a mapping; see ``in_full``.

    :param schema: of the value.
    :param value: what is said.
    """
    value = in_full(schema, value)
    if not isinstance(value, dict):
        return value
    return {key: all_in_full(part_of(schema, key), item) for key, item in value.items()}


def fixed(schema: Schema, value: Any, path: list[Any]) -> list[list[Any]]:
    """List the settings in a value that are the same in every environment.

    :param schema: a JSON Schema; ``varies: true`` holds for all that is below it.
    :param value: what is said of it. What the schema does not know is passed over.
    :param path: where that is.
    :return: paths.
    """
    if schema.get("varies"):
        return []
    value = in_full(schema, value)
    parts = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
    if not parts:
        return [path]
    found = []
    for key, item in value.items() if isinstance(value, dict) else ():
        part = part_of(schema, key)
        found += fixed(part, item, [*path, key]) if part else []
    return found


def parted(schema: Schema, value: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part what is declared into what is the same in every environment and what varies.

    :param schema: a JSON Schema of a mapping.
    :param value: what is said of it.
    :return: two mappings.
    """
    same, varying = {}, {}
    for key, item in value.items():
        part = part_of(schema, key)
        if part.get("varies"):
            varying[key] = item
        elif isinstance(item, dict) and (part.get("properties") or part.get("patternProperties")):
            below, own = parted(part, item)
            same[key] = below
            if own:
                varying[key] = own
        else:
            same[key] = item
    return same, varying


def confined(schema: Schema, value: Mapping[str, Any], roles: Iterable[str]) -> dict[str, Any]:
    """Return settings without what is for hosts of other roles alone (``x-roles``).

    A master compiles the pillar of every host: one that is stolen, or does not behave, learns what its own roles need.

    :param schema: a JSON Schema of a mapping.
    :param value: settings that it accepts.
    :param roles: the host's.
    :return: a new mapping. Of a mapping that is for others nothing but its name is left.
    """
    kept: dict[str, Any] = {}
    for key, item in value.items():
        part = part_of(schema, key)
        if "x-roles" in part and set(part["x-roles"]).isdisjoint(roles):
            if isinstance(item, dict):
                kept[key] = {}
        else:
            kept[key] = confined(part, item, roles) if isinstance(item, dict) else item
    return kept
