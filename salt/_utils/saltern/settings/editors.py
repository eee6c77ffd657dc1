"""The schemas that editors read: what the formulas' settings.yaml say, without the words of ours."""

import json

from saltern.settings.schema import Schema

# What Salt's gpg renderer decrypts, before settings are checked.
ENCRYPTED = r"^-----BEGIN PGP MESSAGE-----\n"


def varying(schema: Schema) -> Schema | None:
    """Return the part of a schema that an environment may set.

    :param schema: a schema; what ``varies`` does so with all that is below it.
    :return: a schema, or ``None`` where nothing varies.
    """
    if schema.get("varies"):
        return schema
    kept = {}
    for word in ("properties", "patternProperties"):
        parts = {name: varying(part) for name, part in schema.get(word, {}).items()}
        kept[word] = {name: part for name, part in parts.items() if part is not None}
    return schema | kept if any(kept.values()) else None


def standard(schema: Schema, whole: bool) -> Schema:
    """Return a schema without our own words, for editors: they read ECMA-262's regular expressions.

    :param schema: a schema of ours.
    :param whole: whether a file must hold all that is required; the pillar's files are only whole when taken together.
    """
    ours = {"$schema", "$defs", "title", "varies", "secret"} | (set() if whole else {"required"})
    out = {word: part for word, part in schema.items() if word not in ours and not word.startswith("x-")}
    if "x-expected" in schema:
        what = "Each key" if "patternProperties" in schema else "Expected"
        out["description"] += f" {what}: {schema['x-expected']}."
    if "pattern" in schema:
        out["pattern"] = ecma(schema["pattern"])
    if schema.get("secret"):
        out["anyOf"] = [{"pattern": out.pop("pattern")}, {"pattern": ENCRYPTED}]
    if "items" in schema:
        out["items"] = standard(schema["items"], whole)
    free = {ecma(pattern): standard(part, whole) for pattern, part in schema.get("patternProperties", {}).items()}
    # Only a name that stands in the schema can be offered.
    usual = {name: part for name in schema.get("x-names", []) for part in free.values()}
    named = {name: standard(part, whole) for name, part in schema.get("properties", {}).items()}
    out |= ({"properties": usual | named} if usual | named else {}) | ({"patternProperties": free} if free else {})
    if "x-short" not in schema:
        return out
    return {"description": out["description"], "anyOf": [named[schema["x-short"]], out]}


def ecma(pattern: str) -> str:
    r"""Return a pattern as ECMA-262 writes it, which has no ``\Z``: its ``$`` is the very end already.

    :param pattern: a regular expression of Python.
    """
    return pattern.replace(r"\Z", "$")


def file(description: str, schema: Schema) -> str:
    """Write a schema as a file that says what it is.

    :param description: what the schema is of.
    :param schema: a standard schema.
    """
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "Written by `make docs` from the formulas' settings.yaml; change those.",
        "description": description,
    }
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"
