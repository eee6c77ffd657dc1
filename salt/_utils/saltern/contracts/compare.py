"""What one OpenAPI document takes away from those who read another one."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from saltern.contracts import openapi
from saltern.contracts.openapi import LONGEST, Document, Schema
from saltern.contracts.pairs import Comparison, TooMuch
from saltern.system import bounded


def broken(old: str, new: str) -> list[str]:
    """List what programs that are written for a document would miss in another one; see ``breaks``.

    :param old: the text that they are written for.
    :param new: the other one.
    :raises ValueError: when one of them is no document, or they cannot be compared within bounds.
    """

    def compared() -> list[str]:
        try:
            before = openapi.parse(old)
        except ValueError as error:
            raise ValueError(f"cannot be compared: that of the release that serves: {error}") from error
        return breaks(before, openapi.parse(new))

    found: list[str] = bounded.call(compared, **openapi.BOUNDS_OF_A_PROCESS)
    return found


def breaks(old: Document, new: Document) -> list[str]:
    """List what programs that are written for a document would miss in another one.

    What is added breaks nothing: an operation, what a request may hold, what an answer holds. Bounds and enumerations
    of answers are not compared: a reader is taken to bear a longer text.

    :param old: the document that they are written for.
    :param new: the other one.
    :return: a sentence for each, such as ``GET /v1/questions: answer 200: total is gone``.
    :raises ValueError: when there is too much to compare.
    """
    found = []
    after = {_anonymous(name): (name, one) for name, one in openapi.operations(new).items()}
    for name, before in openapi.operations(old).items():
        own_name, own = after.get(_anonymous(name), ("", None))
        if own is None:
            found.append(f"{name} is gone")
            continue
        # The other document may have other names for the parameters of the path.
        reasons = _parameter_breaks(_parameters(before, name), _parameters(own, own_name), old, new)
        reasons += _body_breaks(before, own, old, new)
        reasons += _answer_breaks(before, own, old, new)
        if _secured(own, new) and not _secured(before, old):
            reasons.append("asks for authentication")
        found += [f"{name}: {reason}" for reason in reasons]
    return found


def _anonymous(name: str) -> str:
    """Leave out the names of a path's parameters: who calls it does not see them."""
    return re.sub(r"\{[^}]*\}", "{}", name)


def _secured(operation: dict[str, Any], document: Document) -> bool:
    """Tell whether an operation cannot be called without authentication."""
    asked = operation.get("security", document.get("security")) or []
    return bool(asked) and {} not in asked


def _parameters(operation: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an operation's parameters by what they are called; those of the path by their place."""
    places = re.findall(r"\{([^}]*)\}", name)
    found = {}
    for one in operation["parameters"]:
        where, called = one.get("in"), one.get("name")
        if where == "path":
            called = str(places.index(called) + 1) if called in places else called
        found[f"{where} parameter {called.lower() if where == 'header' else called}"] = one
    return found


def _parameter_breaks(there: dict[str, Any], after: dict[str, Any], old: Document, new: Document) -> list[str]:
    found = []
    for called, one in after.items():
        if one.get("required") and called not in there:
            found.append(f"{called} is required")
    for called, one in there.items():
        its = after.get(called)
        if its is None:
            found.append(f"{called} is gone")
            continue
        if its.get("required") and not one.get("required"):
            found.append(f"{called} is required")
        found += _request_breaks(_of(one, old), _of(its, new), old, new, called)
    return found


def _of(parameter: dict[str, Any], document: Document) -> Schema:
    """Return the schema of a parameter, which may stand in its one media type."""
    content: dict[str, Any] = next(iter(parameter.get("content", {}).values()), {})
    return parameter.get("schema", content.get("schema", {}))


def _body_breaks(before: dict[str, Any], own: dict[str, Any], old: Document, new: Document) -> list[str]:
    body, its = (
        openapi.resolved(one.get("requestBody", {}), document) for one, document in ((before, old), (own, new))
    )
    if its.get("required") and not body.get("required"):
        return ["request: a body is required"]
    found = []
    for media, said in body.get("content", {}).items():
        if media not in its.get("content", {}):
            found.append(f"request: {media} is gone")
        else:
            schema, its_schema = (one.get("schema", {}) for one in (said, its["content"][media]))
            found += _request_breaks(schema, its_schema, old, new, "request")
    # One schema for several media types has the same to say of each.
    return list(dict.fromkeys(found))


def _answer_breaks(before: dict[str, Any], own: dict[str, Any], old: Document, new: Document) -> list[str]:
    found = []
    for status, said in before.get("responses", {}).items():
        # What an error looks like, a program seldom reads; that a success is no more, it meets.
        if not status.startswith("2"):
            continue
        answers = own.get("responses", {})
        its = answers.get(status, answers.get("2XX"))
        if its is None:
            found.append(f"answer {status} is gone")
            continue
        said, its = openapi.resolved(said, old), openapi.resolved(its, new)
        for media, one in said.get("content", {}).items():
            other = its.get("content", {}).get(media)
            if other is None:
                found.append(f"answer {status}: {media} is gone")
            else:
                reasons = _reasons(other.get("schema", {}), one.get("schema", {}), new, old, False)
                found += [f"answer {status}: {reason}" for reason in reasons]
        for header, one in said.get("headers", {}).items():
            names = {name.lower(): openapi.resolved(header, new) for name, header in its.get("headers", {}).items()}
            if openapi.resolved(one, old).get("required") and not names.get(header.lower(), {}).get("required"):
                found.append(f"answer {status}: header {header} is gone")
    return found


def _request_breaks(before: Schema, own: Schema, old: Document, new: Document, where: str) -> list[str]:
    return [f"{where}: {reason}" for reason in _reasons(before, own, old, new, True)]


def _reasons(sub: Schema, sup: Schema, sub_document: Document, sup_document: Document, is_request: bool) -> list[str]:
    """List, in sentences, why something that one schema describes may not be what another one describes.

    :param sub: what is sent: the old schema of a request, the new one of an answer.
    :param sup: what is taken: the new schema of a request, the old one of an answer.
    :param is_request: whether it is a request, of which the new schema must take all that the old one did.
    """
    comparison = Comparison(sub_document, sup_document, is_request, by_name=True)
    first = comparison.add(sub, sup)
    failed = comparison.failed()
    if first not in failed:
        return []
    if comparison.has_left_out:
        # Another one of a choice than that of the same name may do. When that is too much to compare, names count.
        whole = Comparison(sub_document, sup_document, is_request)
        with contextlib.suppress(TooMuch):
            if whole.add(sub, sup) not in whole.failed():
                return []
    found = comparison.told(first, failed) or [("", "has changed")]
    return list(dict.fromkeys(f"{_short(at.removeprefix('.')) or 'it'} {what}" for at, what in found))


def _short(at: str) -> str:
    return at if len(at) <= LONGEST else f"{at[: LONGEST // 3]}...{at[-LONGEST // 2 :]}"
