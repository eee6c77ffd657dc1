"""OpenAPI documents: what they describe, and what of it may be tried."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from saltern.system import bounded

Document = dict[str, Any]
# Of JSON Schema: a mapping, or True or False.
Schema = Any

METHODS = ("get", "head", "options", "post", "put", "patch", "delete", "trace")

# What a document may be tried with by itself; all else only where the document says that it is safe.
READING = ("get", "head")
SAFE = "x-safe"

# So many references in a row are followed.
MAX_CHAIN = 30

# Where something is, in so many characters.
LONGEST = 120

# Characters that a document may have, and values, each time that an alias of YAML brings them in.
MAX_SIZE = 2_000_000
MAX_VALUES = 200_000

# Lists and mappings inside each other. Twenty are many.
MAX_NESTING = 100

# What judging documents may take, in a process of its own: whoever wrote one may not have meant well.
BOUNDS_OF_A_PROCESS = {"seconds": 30, "megabytes": 512}


# PyYAML's C loader is many times as fast. Not every build has it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads what JSON can say: a date stays text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    merged = 0

    def flatten_mapping(self, node: Any) -> None:
        super().flatten_mapping(node)
        self.merged += len(node.value)
        # What ``<<`` brings in may bring in more, nine times each time.
        if self.merged > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")


def described(text: str) -> list[str]:
    """List the operations that a document describes; see ``operations``.

    :param text: the document's.
    :return: their names.
    :raises ValueError: when it is no document, or cannot be read within bounds.
    """
    names: list[str] = bounded.call(lambda: list(operations(parse(text))), **BOUNDS_OF_A_PROCESS)
    return names


def part(text: str) -> Document:
    """Return the part of a document that may be tried on a running app; see ``tried``.

    :param text: the document's.
    :raises ValueError: when it is no document, or cannot be read within bounds.
    """
    safe: Document = bounded.call(lambda: tried(parse(text)), **BOUNDS_OF_A_PROCESS)
    return safe


def parse(text: str, is_strict: bool = False) -> Document:
    """Read a document.

    :param text: YAML, or JSON, which is YAML too.
    :param is_strict: refuse a key that a mapping has twice. Which of the two counts, readers do not agree on.
    :return: the document. Its keys are text, as a status is that stands without quotes.
    :raises ValueError: when it is no YAML of a mapping, or too large a one.
    """
    if len(text) > MAX_SIZE:
        raise ValueError(f"larger than {MAX_SIZE // 1_000_000} MB")
    try:
        _walk(text, is_strict)
        found = _with_text_keys(yaml.load(text, _Loader), itertools.count(1))
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        # What is wrong with it, of which the reader of YAML says some in the document's own words.
        problem = getattr(error, "problem", None)
        what = f": {str(problem)[:LONGEST]!a}" if problem else ""
        raise ValueError(f"line {mark.line + 1}: no YAML{what}" if mark else "no YAML") from error
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return found


def _walk(text: str, is_strict: bool) -> None:
    """Refuse YAML that is nested too deep, and a key that is there twice; see ``parse``.

    The reader of YAML calls itself for what is in a list, in C and without an end: 50,000 of them end the process.
    """
    # Of each mapping its keys, of each list nothing; and whether a key is what comes next.
    within: list[set[str] | None] = []
    is_key: list[bool] = []
    for event in yaml.parse(text, _Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionEndEvent):
            within.pop()
            is_key.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        keys = within[-1] if within else None
        if keys is not None:
            if is_key[-1] and isinstance(event, yaml.ScalarEvent):
                if is_strict and event.value in keys and event.value != "<<":
                    raise ValueError(f"line {line}: {event.value[:60]!a} is there twice in one mapping")
                keys.add(event.value)
            is_key[-1] = not is_key[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            if len(within) == MAX_NESTING:
                raise ValueError(f"line {line}: more than {MAX_NESTING} lists and mappings inside each other")
            within.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
            is_key.append(True)


def _with_text_keys(value: Any, counted: itertools.count[int]) -> Any:
    """Return a copy of a value, of which no part stands in two places, with text for keys."""
    if next(counted) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item, counted) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(item, counted) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that JSON cannot say, such as .inf")
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"a value that JSON cannot say ({type(value).__name__})")
    return value


def operations(document: Document) -> dict[str, Any]:
    """List what a document describes.

    :param document: a document of OpenAPI 3 whose references are its own.
    :return: each operation by its method and whole path, such as ``GET /v1/questions/{id}``. Of its path it has the
        parameters too.
    """
    found, base = {}, base_path(document)
    for path, item in document.get("paths", {}).items():
        item = resolved(item, document)
        for method in METHODS:
            if isinstance(item.get(method), dict):
                own = {**item[method]}
                shared = [resolved(one, document) for one in item.get("parameters", [])]
                said = [resolved(one, document) for one in own.get("parameters", [])]
                named = {(one.get("in"), one.get("name")): one for one in [*shared, *said]}
                own["parameters"] = list(named.values())
                found[f"{method.upper()} {base}{path}"] = own
    return found


def base_path(document: Document) -> str:
    """Return what a document's paths start with, by its first server."""
    server = next(iter(document.get("servers") or [{}]))
    url = server.get("url", "/")
    for name, variable in server.get("variables", {}).items():
        url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    return urlsplit(str(url)).path.rstrip("/")


def tried(document: Document) -> Document:
    """Return the part of a document that may be tried on a running app: what reads, and what says that it is safe.

    :param document: a document of OpenAPI 3.
    :return: a document without the other operations, so that whoever has it cannot call them.
    """
    part = {key: value for key, value in document.items() if key not in ("webhooks", "servers")}
    base = base_path(document)
    part["paths"] = {}
    for path, item in document.get("paths", {}).items():
        item = copy.copy(resolved(item, document))
        item.pop("servers", None)
        for method in METHODS:
            own = item.get(method)
            if own is not None and method not in READING and own.get(SAFE) is not True:
                del item[method]
        if any(method in item for method in METHODS):
            part["paths"][f"{base}{path}"] = item
    return part


def leads_to(document: Document, reference: str) -> Any:
    """Return what a reference leads to, ``None`` where that is nothing.

    :param document: the document that it is of.
    :param reference: such as ``#/components/schemas/Question``.
    """
    found: Any = document
    for part in unquote(reference).removeprefix("#/").split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found


def resolved(value: Any, document: Document) -> Any:
    """Follow a reference, and those that it leads to."""
    for _ in range(MAX_CHAIN):
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            break
        found = leads_to(document, value["$ref"])
        found = {} if found is None else found
        others = beside(value)
        # Since OpenAPI 3.1 a schema may say more beside a reference.
        value = {"allOf": [found, others]} if others else found
    return value


def is_reference(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("$ref"), str)


def beside(reference: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference says beside what it leads to."""
    return {key: item for key, item in reference.items() if key not in ("$ref", "description", "summary")}


def identity(value: Any) -> str | bytes:
    """Return what a schema is known by: its reference, or its mark."""
    return value["$ref"] if is_reference(value) and not beside(value) else mark(value)


def mark(value: Any) -> bytes:
    """Return what is the same for two parts of documents that say the same, references as they stand."""
    if isinstance(value, dict) and value.keys() == {"allOf"} and isinstance(value["allOf"], list):
        # In which order a schema is made of its parts, says nothing.
        value = sorted(mark(part).hex() for part in value["allOf"])
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()
