"""Two schemas, of which what the one describes may not be what the other one describes."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

from saltern.contracts import openapi
from saltern.contracts.openapi import Document, Schema
from saltern.contracts.schemas import BOUNDS, Choice, Schemas, types_of, values_of

# What a schema may say that is compared as it is.
WHOLE = (
    *("not", "if", "then", "else", "contains", "propertyNames", "patternProperties", "dependentRequired"),
    *("dependentSchemas", "prefixItems", "unevaluatedProperties", "unevaluatedItems", "multipleOf", "pattern"),
)

# So many pairs of schemas are compared for one request or answer. Two large documents have some thousands.
MAX_PAIRS = 20_000

# Why a choice comes to nothing is told within so many others.
MAX_CHOICES = 2

# Where in a schema, and what of it.
Reason = tuple[str, str]
# By what two schemas are known.
Mark = tuple[bytes, bytes]
# Where in a schema, and the two of which a pair is made there.
Part = tuple[str, Schema, Schema]


def _alike(
    one: Any, other: Any, one_document: Document, other_document: Document, seen: set[tuple[bytes, bytes]] | None = None
) -> bool:
    """Tell whether two values say the same, with the references in them followed.

    :param seen: the pairs of references that were followed, since what they lead to may hold them.
    """
    seen = set() if seen is None else seen
    if openapi.is_reference(one) or openapi.is_reference(other):
        pair = openapi.mark(one), openapi.mark(other)
        if pair in seen:
            return True
        seen.add(pair)
    one, other = openapi.resolved(one, one_document), openapi.resolved(other, other_document)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _alike(one[key], other[key], one_document, other_document, seen) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _alike(*both, one_document, other_document, seen) for both in zip(one, other, strict=True)
        )
    return bool(one == other)


@dataclasses.dataclass
class Pair:
    """A schema of what is sent and one of what is taken.

    :param reasons: why the one does not fit the other, in itself: pairs of where and what.
    :param parts: the pairs that they are made of, by where, such as ``.questions``, and mark.
    :param is_choice: whether one of the parts is enough. Else each must fit.
    """

    reasons: list[Reason]
    parts: list[tuple[str, Mark]]
    is_choice: bool = False


class TooMuch(ValueError):
    """There are more pairs of schemas than may be compared."""


class Comparison:
    """Two documents, of which schemas of the one are compared with schemas of the other.

    Schemas hold each other, and themselves: a comment its replies. So all pairs that meet are found first, each once.
    Then a pair fails when it has a reason of its own or a part of it failed; what never does, fits.

    :param sub: the document of what is sent.
    :param sup: the document of what is taken.
    :param is_request: see ``_reasons``.
    :param by_name: of two choices, compare a schema only with what is called the same, or says the same, where there is
        such a one. What fits so, fits; of what does not, ``has_left_out`` says whether something else may.
    """

    def __init__(self, sub: Document, sup: Document, is_request: bool, by_name: bool = False) -> None:
        self.sub, self.sup = Schemas(sub, is_request), Schemas(sup, is_request)
        self.is_request, self.by_name, self.has_left_out = is_request, by_name, False
        self.pairs: dict[Mark, Pair] = {}

    def add(self, sub: Schema, sup: Schema) -> Mark:
        """Find a pair and all that it is made of; return its mark.

        :raises TooMuch: when there are too many.
        """
        first, left = (openapi.mark(sub), openapi.mark(sup)), [(sub, sup)]
        while left:
            sub, sup = left.pop()
            mark = openapi.mark(sub), openapi.mark(sup)
            if mark in self.pairs:
                continue
            if len(self.pairs) == MAX_PAIRS:
                raise TooMuch(f"has more than {MAX_PAIRS} pairs of schemas to compare in one request or answer")
            reasons, parts, is_choice = self.compared(sub, sup)
            left += [(one, other) for _, one, other in parts]
            marked = [(step, (openapi.mark(one), openapi.mark(other))) for step, one, other in parts]
            self.pairs[mark] = Pair(reasons, marked, is_choice)
        return first

    def compared(self, sub: Schema, sup: Schema) -> tuple[list[Reason], list[Part], bool]:
        """Compare two schemas.

        :return: reasons, parts with the schemas themselves, and whether one of these is enough; see ``Pair``.
        """
        whole, choices = self.sub.whole(sub)
        its, its_choices = self.sup.whole(sup)
        if choices and choices[0].others:
            return *self._each(choices[0], its_choices, sub, sup), False
        for choice in its_choices:
            if choice.others:
                return [], [("", sub, one) for one in self._eligible(choice, whole, sup)], True
        if found := _type_reasons(whole, its, self.is_request):
            return found, [], False
        found = _required_reasons(whole, its, self.is_request)
        if self.is_request:
            found += _narrowing_reasons(whole, its)
            for word in WHOLE:
                if word in its and not _alike(whole.get(word), its[word], self.sub.document, self.sup.document):
                    found.append(("", f"has another {word}"))
        if "format" in its and whole.get("format") != its["format"]:
            found.append(("", "has another format"))
        own = whole.get("properties", {})
        parts = [(f".{name}", own[name], one) for name, one in its.get("properties", {}).items() if name in own]
        for word, step in (("items", "[]"), ("additionalProperties", "{}")):
            if isinstance(its.get(word), dict) and isinstance(whole.get(word), dict):
                parts.append((step, whole[word], its[word]))
        # Children that a parent does not list are compared by what names them, beside the parent itself.
        for choice in choices:
            gone, children = self._each(choice, its_choices, sub, sup)
            found, parts = found + gone, parts + children
        return found, parts, False

    def _each(
        self, choice: Choice, its_choices: list[Choice], sub: Schema, sup: Schema
    ) -> tuple[list[Reason], list[Part]]:
        """Find what each schema of a choice is compared with: the one of the same name, where a property names them.

        :param choice: of the schema ``sub``.
        :param its_choices: those of the schema ``sup``.
        :return: reasons and parts; see ``compared``.
        """
        its = next((one for one in its_choices if choice.tag and one.tag == choice.tag), None)
        reasons, parts, named = [], [], []
        for name, one in choice.named.items() if its else ():
            if its and name in its.named:
                step = f"({choice.tag}: {name})"
                parts.append((step, self.sub.both(sub, one), self.sup.both(sup, its.named[name])))
                named.append(one)
            elif self.is_request:
                reasons.append((f".{choice.tag}", "takes fewer values"))
                named.append(one)
        others = {openapi.identity(one): one for each in its_choices for one in each.others} if self.by_name else {}
        for one in choice.others:
            if one in named:
                continue
            same = others.get(openapi.identity(one))
            self.has_left_out |= same is not None
            parts.append(("", self.sub.both(sub, one), sup if same is None else self.sup.both(sup, same)))
        return reasons, parts

    def _eligible(self, choice: Choice, whole: dict[str, Any], sup: Schema) -> list[Schema]:
        """List those of a choice that a schema may be one of: where a property tells them apart, what it may say.

        :param choice: of the schema ``sup``.
        :param whole: the other schema, as ``Schemas.whole`` gives it.
        """
        said = {name: self.sub.values(one) for name, one in whole.get("properties", {}).items()}
        others = [(one, self.sup.tags(one)) for one in (self.sup.both(sup, other) for other in choice.others)]
        for name, values in said.items():
            if values is not None and all(tags.get(name) is not None for _, tags in others):
                found = [one for one, tags in others if any(value in (tags[name] or ()) for value in values)]
                if found:
                    return found
        return [one for one, _ in others]

    def failed(self) -> set[Mark]:
        """Return the marks of the pairs of which the one does not fit the other."""
        wholes: dict[Mark, list[Mark]] = {}
        left: dict[Mark, int] = {}
        for mark, pair in self.pairs.items():
            left[mark] = len(pair.parts) if pair.is_choice else 1
            for _, part in pair.parts:
                wholes.setdefault(part, []).append(mark)
        news = [mark for mark, pair in self.pairs.items() if pair.reasons]
        found = set(news)
        while news:
            for whole in wholes.get(news.pop(), ()):
                left[whole] -= 1
                if left[whole] <= 0 and whole not in found:
                    found.add(whole)
                    news.append(whole)
        return found

    def told(self, mark: Mark, failed: set[Mark], seen: set[Mark] | None = None, choices: int = 0) -> list[Reason]:
        """List why a pair failed, the nearest first, each once; of a choice the least that stands in the way.

        :return: pairs of where, such as ``.questions[].id``, and what.
        """
        found, left, seen = [], collections.deque([("", mark)]), set() if seen is None else seen
        while left:
            at, mark = left.popleft()
            if mark not in failed or mark in seen:
                continue
            seen.add(mark)
            pair = self.pairs[mark]
            reasons = pair.reasons
            if pair.is_choice and choices == MAX_CHOICES:
                reasons = [("", "has changed")]
            elif pair.is_choice:
                reasons = min((self.told(part, failed, set(seen), choices + 1) for _, part in pair.parts), key=len)
            else:
                left += [(f"{at}{step}", part) for step, part in pair.parts]
            found += [(f"{at}{where}", what) for where, what in reasons]
        return found


def _type_reasons(sub: dict[str, Any], sup: dict[str, Any], is_request: bool) -> list[Reason]:
    others = types_of(sub) - types_of(sup)
    # Each integer is a number.
    shown = " or ".join(sorted(others - {"integer"} if "number" in others else others))
    if not others:
        return []
    if sub.get("type") is None:
        allowed = " or ".join(sorted(types_of(sup)))
        return [("", f"may only be {allowed}" if is_request else f"may be more than {allowed}")]
    return [("", f"may no longer be {shown}" if is_request else f"may be {shown} now")]


def _required_reasons(sub: dict[str, Any], sup: dict[str, Any], is_request: bool) -> list[Reason]:
    found = []
    for name in sup.get("required", []):
        if name not in sub.get("required", []):
            is_there = is_request or name in sub.get("properties", {})
            found.append((f".{name}", "is required" if is_request else "may be missing" if is_there else "is gone"))
    if is_request:
        # One that says nothing of its properties takes all.
        is_open = "properties" not in sup and sup.get("additionalProperties", True) is not False
        for name in () if is_open or isinstance(sup.get("additionalProperties"), dict) else sub.get("properties", {}):
            if name not in sup.get("properties", {}):
                found.append((f".{name}", "is gone"))
        if sup.get("additionalProperties") is False and sub.get("additionalProperties", True) is not False:
            found.append(("", "takes no other properties"))
    return found


def _narrowing_reasons(sub: dict[str, Any], sup: dict[str, Any]) -> list[Reason]:
    found = []
    values = values_of(sup)
    if values is not None:
        own = values_of(sub)
        if own is None or any(value not in values for value in own):
            found.append(("", "takes fewer values"))
    for word, is_greater in BOUNDS.items():
        if word in sup and not _implies(sub.get(word), sup[word], is_greater):
            found.append(("", f"has another {word}"))
    if sup.get("uniqueItems") and not sub.get("uniqueItems"):
        found.append(("", "takes no repeats"))
    return found


def _implies(own: Any, other: Any, is_greater: bool) -> bool:
    return own is not None and (own >= other if is_greater else own <= other)
