"""The contracts of an app: the OpenAPI document of each version of its API."""

import hashlib
import posixpath
import re
import tarfile
from collections.abc import Iterator
from typing import Any

from saltern.builds.make.code import read_text
from saltern.builds.make.telling import ascii_name
from saltern.contracts import compare, openapi
from saltern.refusal import Refusal
from saltern.system import bounded

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def contracts_of(code: tarfile.TarFile, pattern: str) -> dict[str, dict[str, str]]:
    """Return what an app's OpenAPI documents are, by the version of its API that they describe.

    :param code: the app's code, an open tarball.
    :param pattern: what a version must fit.
    :return: title, version and digest of each ``openapi/<version>.yaml``.
    :raises Refusal: naming the first that is no OpenAPI document.
    """
    found = {}
    for name in sorted(member.name for member in code.getmembers() if not member.isdir()):
        directory, _, file = name.rpartition("/")
        version, suffix = posixpath.splitext(file)
        if directory == "openapi" and suffix == ".yaml" and re.match(pattern, version):
            if not code.getmember(name).isfile():
                raise Refusal(f"{name}: a link; expected a file. Copy what it links to")
            text = read_text(code, name, "", "")
            info = read_document(name, text)
            found[version] = info | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    return found


def read_document(name: str, text: str) -> dict[str, str]:
    """Read an OpenAPI document as a host will, and as OpenAPI's own schema has it, in a process of its own.

    :param name: what to call it.
    :param text: its content.
    :return: its ``info``.
    :raises Refusal: with the first thing that is wrong.
    """
    from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

    validators = {"3.0": OpenAPIV30SpecValidator, "3.1": OpenAPIV31SpecValidator}

    def judged() -> tuple[str | None, dict[str, str] | None]:
        try:
            document = openapi.parse(text, is_strict=True)
        except ValueError as error:
            return f"{error}; expected an OpenAPI document", None
        validator = validators.get(".".join(str(document.get("openapi", "")).split(".")[:2]))
        if validator is None:
            return "openapi: expected a version 3.0 or 3.1", None
        for word, reference in references(document):
            # A host compares what $ref leads to, by its place, and would miss a break behind all else.
            if word != "$ref" or (reference.startswith("#") and not reference.startswith("#/")):
                shown = f"{word} {ascii_name(reference)}"
                return f"{shown}: not followed; expected a $ref to a place, such as #/components/schemas/Comment", None
            if not reference.startswith("#/"):
                return f"$ref {ascii_name(reference)}: leads out of the document; copy what it leads to", None
            if openapi.leads_to(document, reference) is None:
                return f"$ref {ascii_name(reference)}: leads to nothing; expected what is in the document", None
        mistake = next(validator(document).iter_errors(), None)
        if mistake:
            where = ".".join(map(str, getattr(mistake, "absolute_path", ())))
            words = " ".join(str(getattr(mistake, "message", mistake)).split())
            reason = words.partition(" Failed validating")[0][:200]
            return f"{f'{where}: ' if where else ''}{reason}; mend it", None
        if not openapi.operations(document):
            return "paths: describes no operation; expected one at least", None
        # As a host does when a build follows this one.
        compare.breaks(document, document)
        return None, {"title": document["info"]["title"], "version": str(document["info"]["version"])}

    try:
        reason, info = bounded.call(judged, **openapi.BOUNDS_OF_A_PROCESS)
    except ValueError as error:
        raise Refusal(f"{name}: {error}; expected an OpenAPI document") from error
    if reason:
        raise Refusal(f"{name}: {reason}")
    return dict(info)


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the word and the value of each reference in a document, but for those that an example shows."""
    if isinstance(value, dict):
        yield from ((word, value[word]) for word in REFERENCES if isinstance(value.get(word), str))
        for key, item in value.items():
            if key not in ("example", "examples"):
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)
