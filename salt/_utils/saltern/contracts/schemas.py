"""The schemas of an OpenAPI document, each read once."""

from __future__ import annotations

import dataclasses
from typing import Any

from saltern.contracts import openapi
from saltern.contracts.openapi import Document, Schema

# What a schema is made of, each part with the reference that led to it; and what identifies these parts.
Closure = tuple[list[tuple[dict[str, Any], str | None]], set[str | bytes]]

# What narrows a schema by another number: whether the greater one does.
BOUNDS = {
    "minimum": True,
    "maximum": False,
    "exclusiveMinimum": True,
    "exclusiveMaximum": False,
    "minLength": True,
    "maxLength": False,
    "minItems": True,
    "maxItems": False,
    "minProperties": True,
    "maxProperties": False,
}

# What a schema may say that binds no value.
NOTES = (
    *("title", "description", "summary", "deprecated", "example", "examples", "externalDocs", "default", "$comment"),
    "discriminator",
)

# Where a document has its schemas by name.
SCHEMAS = "#/components/schemas/"


@dataclasses.dataclass
class Choice:
    """Schemas of which what a schema describes is one.

    :param others: these schemas.
    :param tag: the property that says which one it is. Empty where none does.
    :param named: the schemas by what that property says, where it is known. A generated document may have but these:
        a parent that lists no children, each of which is made of it.
    """

    others: list[Schema]
    tag: str = ""
    named: dict[str, Schema] = dataclasses.field(default_factory=dict)


class Schemas:
    """The schemas of a document, each read once.

    :param document: the document.
    :param is_request: see ``_reasons``.
    """

    def __init__(self, document: Document, is_request: bool) -> None:
        self.document, self.is_request = document, is_request
        self._closures: dict[str | bytes, Closure] = {}
        self._wholes: dict[bytes, tuple[dict[str, Any], list[Choice]]] = {}
        self._tags: dict[bytes, dict[str, list[Any] | None]] = {}
        self._children: dict[str, list[dict[str, str]]] | None = None

    def whole(self, schema: Schema) -> tuple[dict[str, Any], list[Choice]]:
        """Return a schema with its references followed, what it is made of in one, and OpenAPI 3.0's words as 3.1's.

        :return: a schema without choices, and a list of ``Choice``. A choice is met, and left out, where the schema is
            made of one of those to choose from: a child is made of its parent, which says that it is one of its own.
        """
        mark = openapi.mark(schema)
        if mark not in self._wholes:
            self._wholes[mark] = self._whole(schema)
        return self._wholes[mark]

    def _whole(self, schema: Schema) -> tuple[dict[str, Any], list[Choice]]:
        parts, made_of = self.closure(schema)
        found: dict[str, Any] = {}
        choices: list[Choice] = []
        met: dict[str, bool] = {}
        for part, reference in parts:
            own = _as_in_3_1(part)
            discriminator = own.pop("discriminator", None)
            discriminator = discriminator if isinstance(discriminator, dict) else {}
            given = [own.pop(word) for word in ("oneOf", "anyOf") if word in own]
            given = [others for others in given if isinstance(others, list) and others]
            for others in given:
                if not any(self._is_met(one, made_of, met) for one in others):
                    choices.append(self._choice(others, discriminator))
            children = self._children_of(reference) if discriminator and not given else []
            if children and not any(openapi.identity(one) in made_of for one in children):
                choices.append(dataclasses.replace(self._choice(children, discriminator), others=[]))
            found = self._merged(found, own)
        # What has but its children listed last is compared as what it is.
        choices.sort(key=lambda choice: not choice.others)
        hidden = "readOnly" if self.is_request else "writeOnly"
        properties = found.get("properties", {})
        left_out = {
            name
            for name, one in properties.items()
            if any(part.get(hidden) is True for part, _ in self.closure(one)[0])
        }
        if left_out:
            found["properties"] = {name: one for name, one in properties.items() if name not in left_out}
            found["required"] = [name for name in found.get("required", []) if name not in left_out]
        return found, choices

    def closure(self, schema: Schema) -> Closure:
        """Find what a schema is made of: itself, what it refers to, and ``allOf``, each reference once.

        :return: a list of mappings, each with the reference that led to it; and what identifies each part, references
            included.
        """
        identity = openapi.identity(schema)
        if identity in self._closures:
            return self._closures[identity]
        found: list[tuple[dict[str, Any], str | None]] = []
        left: list[tuple[Schema, str | None]] = [(schema, None)]
        made_of: set[str | bytes] = set()
        while left:
            one, reference = left.pop(0)
            if one is False:
                found.append(({"type": []}, None))
                made_of.add(openapi.identity(one))
            elif openapi.is_reference(one):
                others = openapi.beside(one)
                # Since OpenAPI 3.1 a schema may say more beside a reference.
                is_new = one["$ref"] not in made_of
                target = [(openapi.leads_to(self.document, one["$ref"]), one["$ref"])] if is_new else []
                made_of.update((one["$ref"], openapi.identity(one)))
                left[:0] = [*target, *([(others, None)] if others else [])]
            elif isinstance(one, dict):
                made_of.add(openapi.identity(one))
                found.append(({key: item for key, item in one.items() if key != "allOf"}, reference))
                left[:0] = [(part, None) for part in one.get("allOf", [])]
        self._closures[identity] = found, made_of
        return found, made_of

    def both(self, one: Schema, other: Schema) -> Any:
        """Return a schema of what is as two others say, the same each time that they are met so.

        Of two parts of which one is made of the other, the other says nothing more.
        """
        parts: list[Schema] = []
        for part in (one, other):
            parts += part["allOf"] if isinstance(part, dict) and part.keys() == {"allOf"} else [part]
        parts = list({openapi.identity(part): part for part in parts if part not in ({}, True)}.values())
        kept = list(parts)
        for part in parts:
            rest = [each for each in kept if each is not part]
            if any(openapi.identity(part) in self.closure(each)[1] for each in rest):
                kept = rest
        return kept[0] if len(kept) == 1 else {"allOf": kept}

    def values(self, schema: Schema) -> list[Any] | None:
        """Return the only values that a schema allows, ``None`` where it does not list them."""
        return values_of(self.whole(schema)[0])

    def tags(self, schema: Schema) -> dict[str, list[Any] | None]:
        """Return the values of each property of a schema, or ``None``; see ``values``."""
        mark = openapi.mark(schema)
        if mark not in self._tags:
            properties = self.whole(schema)[0].get("properties", {})
            self._tags[mark] = {name: self.values(one) for name, one in properties.items()}
        return self._tags[mark]

    def _choice(self, others: list[Any], discriminator: dict[str, Any]) -> Choice:
        """Return a choice with what its schemas are called by the property that tells them apart, if there is one."""
        tag = discriminator.get("propertyName")
        if not isinstance(tag, str):
            return Choice(others)
        mapping = discriminator.get("mapping")
        called: dict[str, list[str]] = {}
        for name, target in mapping.items() if isinstance(mapping, dict) else ():
            if isinstance(target, str):
                called.setdefault(target if "/" in target else SCHEMAS + target, []).append(name)
        named = {}
        for one in others:
            reference = one.get("$ref") if isinstance(one, dict) else None
            if isinstance(reference, str):
                own = self._own_values(reference, tag)
                names = own or called.get(reference) or [reference.rpartition("/")[2]]
                named.update({str(name): one for name in names})
        return Choice(others, tag, named)

    def _own_values(self, reference: str, tag: str) -> list[Any] | None:
        """Return what a schema itself allows its property to say: of a parent's list, each child has one."""
        found = None
        for part, _ in self.closure({"$ref": reference})[0]:
            properties = part.get("properties")
            one = properties.get(tag) if isinstance(properties, dict) else None
            for each, _ in self.closure(one)[0] if one is not None else ():
                values = values_of(each)
                if isinstance(values, list):
                    found = values if found is None else [value for value in found if value in values]
        # A parent's list of all of them names none.
        return found if found and len(found) == 1 else None

    def _children_of(self, reference: str | None) -> list[dict[str, str]]:
        """List the schemas that are made of another one, which the document has by name."""
        if self._children is None:
            children: dict[str, list[dict[str, str]]] = {}
            components = self.document.get("components")
            schemas = components.get("schemas") if isinstance(components, dict) else None
            for name in schemas if isinstance(schemas, dict) else ():
                own = SCHEMAS + name.replace("~", "~0").replace("/", "~1")
                for part in self.closure({"$ref": own})[1]:
                    if isinstance(part, str) and part != own:
                        children.setdefault(part, []).append({"$ref": own})
            self._children = children
        return self._children.get(reference or "", [])

    def _is_met(self, one: Schema, made_of: set[str | bytes], met: dict[str, bool]) -> bool:
        """Tell whether a schema says no more than what another one is made of.

        :param one: the schema.
        :param made_of: as ``closure`` gives it.
        :param met: what is known of references already.
        """
        if one is None or one is True:
            return True
        if openapi.identity(one) in made_of:
            return True
        if not isinstance(one, dict):
            return False
        if openapi.is_reference(one):
            reference, others = one["$ref"], openapi.beside(one)
            if reference in made_of:
                return not others or self._is_met(others, made_of, met)
            if reference not in met:
                # It may lead to itself.
                met[reference] = False
                met[reference] = self._is_met(openapi.leads_to(self.document, reference), made_of, met)
            return met[reference] and (not others or self._is_met(others, made_of, met))
        if one.keys() - {"allOf", "oneOf", "anyOf", *NOTES}:
            return False
        return all(self._is_met(part, made_of, met) for part in one.get("allOf", [])) and all(
            any(self._is_met(part, made_of, met) for part in one[word]) for word in ("oneOf", "anyOf") if one.get(word)
        )

    def _merged(self, one: Schema, other: Schema) -> dict[str, Any]:
        """Return a schema that says what two say."""
        found = {**one, **other}
        if "type" in one and "type" in other:
            both = types_of(one) & types_of(other)
            found["type"] = sorted(both)
        if "properties" in one and "properties" in other:
            found["properties"] = {**one["properties"], **other["properties"]}
            for name in one["properties"].keys() & other["properties"].keys():
                found["properties"][name] = self.both(one["properties"][name], other["properties"][name])
        if "required" in one and "required" in other:
            found["required"] = [*one["required"], *(name for name in other["required"] if name not in one["required"])]
        for word, is_greater in BOUNDS.items():
            if word in one and word in other:
                found[word] = (max if is_greater else min)(one[word], other[word])
        values, others = values_of(one), values_of(other)
        if isinstance(values, list) and isinstance(others, list):
            found["enum"] = [value for value in values if value in others]
            found.pop("const", None)
        return found


def types_of(schema: Schema) -> set[str]:
    """Return the types that a schema allows: all, where it says none."""
    every = {"null", "boolean", "object", "array", "number", "integer", "string"}
    said = schema.get("type")
    found = every if said is None else {said} if isinstance(said, str) else set(said)
    return found | {"integer"} if "number" in found else found


def values_of(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _as_in_3_1(schema: Schema) -> dict[str, Any]:
    """Return a schema with OpenAPI 3.0's words as 3.1's."""
    found = {key: value for key, value in schema.items() if key != "nullable"}
    for bound in ("Minimum", "Maximum"):
        # In OpenAPI 3.0 it says of the bound beside it that it is one itself.
        is_exclusive = found.get(f"exclusive{bound}")
        if isinstance(is_exclusive, bool):
            del found[f"exclusive{bound}"]
            if is_exclusive and bound.lower() in found:
                found[f"exclusive{bound}"] = found.pop(bound.lower())
    if schema.get("nullable") and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found
