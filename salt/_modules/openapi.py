"""OpenAPI documents: what they describe, what of it may be tried, and what one takes away from another's readers."""

import collections
import contextlib
import copy
import dataclasses
import hashlib
import itertools
import json
import math
import re
from urllib.parse import unquote, urlsplit

import yaml

__load__ = ["broken", "described", "part"]

METHODS = ("get", "head", "options", "post", "put", "patch", "delete", "trace")

# What a document may be tried with by itself; all else only where the document says that it is safe.
READING = ("get", "head")
SAFE = "x-safe"

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

# What a schema may say that is compared as it is.
WHOLE = (
    *("not", "if", "then", "else", "contains", "propertyNames", "patternProperties", "dependentRequired"),
    *("dependentSchemas", "prefixItems", "unevaluatedProperties", "unevaluatedItems", "multipleOf", "pattern"),
)

# What a schema may say that binds no value.
NOTES = (
    *("title", "description", "summary", "deprecated", "example", "examples", "externalDocs", "default", "$comment"),
    "discriminator",
)

# Where a document has its schemas by name.
SCHEMAS = "#/components/schemas/"

# So many references in a row are followed.
MAX_CHAIN = 30

# So many pairs of schemas are compared for one request or answer. Two large documents have some thousands.
MAX_PAIRS = 20_000

# Why a choice comes to nothing is told within so many others; and where, in so many characters.
MAX_CHOICES = 2
LONGEST = 120

# Characters that a document may have, and values, each time that an alias of YAML brings them in.
MAX_SIZE = 2_000_000
MAX_VALUES = 200_000

# Lists and mappings inside each other. Twenty are many.
MAX_NESTING = 100

# What judging documents may take, in a process of its own: whoever wrote one may not have meant well.
BOUNDS_OF_A_PROCESS = {"seconds": 30, "megabytes": 512}


# PyYAML's C loader is many times as fast. Not every build has it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads what JSON can say: a date stays text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    merged = 0

    def flatten_mapping(self, node):
        super().flatten_mapping(node)
        self.merged += len(node.value)
        # What ``<<`` brings in may bring in more, nine times each time.
        if self.merged > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")


def broken(old, new):
    """List what programs that are written for a document would miss in another one; see ``breaks``.

    :param old: the text that they are written for.
    :param new: the other one.
    :raises ValueError: when one of them is no document, or they cannot be compared within bounds.

    CLI Example: none, it serves the module contract.
    """

    def compared():
        try:
            before = parse(old)
        except ValueError as error:
            raise ValueError(f"cannot be compared: that of the release that serves: {error}") from error
        return breaks(before, parse(new))

    return __salt__["bounded.call"](compared, **BOUNDS_OF_A_PROCESS)


def described(text):
    """List the operations that a document describes; see ``operations``.

    :param text: the document's.
    :return: their names.
    :raises ValueError: when it is no document, or cannot be read within bounds.

    CLI Example: none, it serves the module contract.
    """
    return __salt__["bounded.call"](lambda: list(operations(parse(text))), **BOUNDS_OF_A_PROCESS)


def part(text):
    """Return the part of a document that may be tried on a running app; see ``tried``.

    :param text: the document's.
    :raises ValueError: when it is no document, or cannot be read within bounds.

    CLI Example: none, it serves the module contract.
    """
    return __salt__["bounded.call"](lambda: tried(parse(text)), **BOUNDS_OF_A_PROCESS)


def parse(text, is_strict=False):
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
        what = f": {str(error.problem)[:LONGEST]!a}" if getattr(error, "problem", None) else ""
        raise ValueError(f"line {mark.line + 1}: no YAML{what}" if mark else "no YAML") from error
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return found


def _walk(text, is_strict):
    """Refuse YAML that is nested too deep, and a key that is there twice; see ``parse``.

    The reader of YAML calls itself for what is in a list, in C and without an end: 50,000 of them end the process.
    """
    # Of each mapping its keys, of each list nothing; and whether a key is what comes next.
    within, is_key = [], []
    for event in yaml.parse(text, _Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionEndEvent):
            within.pop()
            is_key.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if within and within[-1] is not None:
            if is_key[-1] and isinstance(event, yaml.ScalarEvent):
                if is_strict and event.value in within[-1] and event.value != "<<":
                    raise ValueError(f"line {line}: {event.value[:60]!a} is there twice in one mapping")
                within[-1].add(event.value)
            is_key[-1] = not is_key[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            if len(within) == MAX_NESTING:
                raise ValueError(f"line {line}: more than {MAX_NESTING} lists and mappings inside each other")
            within.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
            is_key.append(True)


def _with_text_keys(value, counted):
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


def operations(document):
    """List what a document describes.

    :param document: a document of OpenAPI 3 whose references are its own.
    :return: each operation by its method and whole path, such as ``GET /v1/questions/{id}``. Of its path it has the
        parameters too.
    """
    found, base = {}, base_path(document)
    for path, item in document.get("paths", {}).items():
        item = _resolved(item, document)
        for method in METHODS:
            if isinstance(item.get(method), dict):
                own = {**item[method]}
                shared = [_resolved(one, document) for one in item.get("parameters", [])]
                said = [_resolved(one, document) for one in own.get("parameters", [])]
                named = {(one.get("in"), one.get("name")): one for one in [*shared, *said]}
                own["parameters"] = list(named.values())
                found[f"{method.upper()} {base}{path}"] = own
    return found


def base_path(document):
    """Return what a document's paths start with, by its first server."""
    server = next(iter(document.get("servers") or [{}]))
    url = server.get("url", "/")
    for name, variable in server.get("variables", {}).items():
        url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    return urlsplit(url).path.rstrip("/")


def tried(document):
    """Return the part of a document that may be tried on a running app: what reads, and what says that it is safe.

    :param document: a document of OpenAPI 3.
    :return: a document without the other operations, so that whoever has it cannot call them.
    """
    part = {key: value for key, value in document.items() if key not in ("webhooks", "servers")}
    base = base_path(document)
    part["paths"] = {}
    for path, item in document.get("paths", {}).items():
        item = copy.copy(_resolved(item, document))
        item.pop("servers", None)
        for method in METHODS:
            own = item.get(method)
            if own is not None and method not in READING and own.get(SAFE) is not True:
                del item[method]
        if any(method in item for method in METHODS):
            part["paths"][f"{base}{path}"] = item
    return part


def leads_to(document, reference):
    """Return what a reference leads to, ``None`` where that is nothing.

    :param document: the document that it is of.
    :param reference: such as ``#/components/schemas/Question``.
    """
    found = document
    for part in unquote(reference).removeprefix("#/").split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found


def _resolved(value, document):
    """Follow a reference, and those that it leads to."""
    for _ in range(MAX_CHAIN):
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            break
        found = leads_to(document, value["$ref"])
        found = {} if found is None else found
        others = _beside(value)
        # Since OpenAPI 3.1 a schema may say more beside a reference.
        value = {"allOf": [found, others]} if others else found
    return value


def _alike(one, other, one_document, other_document, seen=None):
    """Tell whether two values say the same, with the references in them followed.

    :param seen: the pairs of references that were followed, since what they lead to may hold them.
    """
    seen = set() if seen is None else seen
    if _is_reference(one) or _is_reference(other):
        pair = _mark(one), _mark(other)
        if pair in seen:
            return True
        seen.add(pair)
    one, other = _resolved(one, one_document), _resolved(other, other_document)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _alike(one[key], other[key], one_document, other_document, seen) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _alike(*both, one_document, other_document, seen) for both in zip(one, other, strict=True)
        )
    return one == other


def _is_reference(value):
    return isinstance(value, dict) and isinstance(value.get("$ref"), str)


def _beside(reference):
    """Return what a reference says beside what it leads to."""
    return {key: item for key, item in reference.items() if key not in ("$ref", "description", "summary")}


def _identity(value):
    """Return what a schema is known by: its reference, or its mark."""
    return value["$ref"] if _is_reference(value) and not _beside(value) else _mark(value)


def _mark(value):
    """Return what is the same for two parts of documents that say the same, references as they stand."""
    if isinstance(value, dict) and value.keys() == {"allOf"} and isinstance(value["allOf"], list):
        # In which order a schema is made of its parts, says nothing.
        value = sorted(_mark(part).hex() for part in value["allOf"])
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()


# --- What a document takes away from another's readers ----------------------------------------------------------------


def breaks(old, new):
    """List what programs that are written for a document would miss in another one.

    What is added breaks nothing: an operation, what a request may hold, what an answer holds. Bounds and enumerations
    of answers are not compared: a reader is taken to bear a longer text.

    :param old: the document that they are written for.
    :param new: the other one.
    :return: a sentence for each, such as ``GET /v1/questions: answer 200: total is gone``.
    :raises ValueError: when there is too much to compare.
    """
    found = []
    after = {_anonymous(name): (name, one) for name, one in operations(new).items()}
    for name, before in operations(old).items():
        own_name, own = after.get(_anonymous(name), (None, None))
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


def _anonymous(name):
    """Leave out the names of a path's parameters: who calls it does not see them."""
    return re.sub(r"\{[^}]*\}", "{}", name)


def _secured(operation, document):
    """Tell whether an operation cannot be called without authentication."""
    asked = operation.get("security", document.get("security")) or []
    return bool(asked) and {} not in asked


def _parameters(operation, name):
    """Return an operation's parameters by what they are called; those of the path by their place."""
    places = re.findall(r"\{([^}]*)\}", name)
    found = {}
    for one in operation["parameters"]:
        where, called = one.get("in"), one.get("name")
        if where == "path":
            called = str(places.index(called) + 1) if called in places else called
        found[f"{where} parameter {called.lower() if where == 'header' else called}"] = one
    return found


def _parameter_breaks(there, after, old, new):
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


def _of(parameter, document):
    """Return the schema of a parameter, which may stand in its one media type."""
    content = next(iter(parameter.get("content", {}).values()), {})
    return parameter.get("schema", content.get("schema", {}))


def _body_breaks(before, own, old, new):
    body, its = (_resolved(one.get("requestBody", {}), document) for one, document in ((before, old), (own, new)))
    if its.get("required") and not body.get("required"):
        return ["request: a body is required"]
    found = []
    for media, said in body.get("content", {}).items():
        if media not in its.get("content", {}):
            found.append(f"request: {media} is gone")
        else:
            schemas = (one.get("schema", {}) for one in (said, its["content"][media]))
            found += _request_breaks(*schemas, old, new, "request")
    # One schema for several media types has the same to say of each.
    return list(dict.fromkeys(found))


def _answer_breaks(before, own, old, new):
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
        said, its = _resolved(said, old), _resolved(its, new)
        for media, one in said.get("content", {}).items():
            other = its.get("content", {}).get(media)
            if other is None:
                found.append(f"answer {status}: {media} is gone")
            else:
                reasons = _reasons(other.get("schema", {}), one.get("schema", {}), new, old, False)
                found += [f"answer {status}: {reason}" for reason in reasons]
        for header, one in said.get("headers", {}).items():
            names = {name.lower(): _resolved(header, new) for name, header in its.get("headers", {}).items()}
            if _resolved(one, old).get("required") and not names.get(header.lower(), {}).get("required"):
                found.append(f"answer {status}: header {header} is gone")
    return found


def _request_breaks(before, own, old, new, where):
    return [f"{where}: {reason}" for reason in _reasons(before, own, old, new, True)]


def _reasons(sub, sup, sub_document, sup_document, is_request):
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


def _short(at):
    return at if len(at) <= LONGEST else f"{at[: LONGEST // 3]}...{at[-LONGEST // 2 :]}"


@dataclasses.dataclass
class Choice:
    """Schemas of which what a schema describes is one.

    :param others: these schemas.
    :param tag: the property that says which one it is. Empty where none does.
    :param named: the schemas by what that property says, where it is known. A generated document may have but these:
        a parent that lists no children, each of which is made of it.
    """

    others: list
    tag: str = ""
    named: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Pair:
    """A schema of what is sent and one of what is taken.

    :param reasons: why the one does not fit the other, in itself: pairs of where and what.
    :param parts: the pairs that they are made of, by where, such as ``.questions``, and mark.
    :param is_choice: whether one of the parts is enough. Else each must fit.
    """

    reasons: list
    parts: list
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

    def __init__(self, sub, sup, is_request, by_name=False):
        self.sub, self.sup = Schemas(sub, is_request), Schemas(sup, is_request)
        self.is_request, self.by_name, self.pairs, self.has_left_out = is_request, by_name, {}, False

    def add(self, sub, sup):
        """Find a pair and all that it is made of; return its mark.

        :raises TooMuch: when there are too many.
        """
        first, left = (_mark(sub), _mark(sup)), [(sub, sup)]
        while left:
            sub, sup = left.pop()
            mark = _mark(sub), _mark(sup)
            if mark in self.pairs:
                continue
            if len(self.pairs) == MAX_PAIRS:
                raise TooMuch(f"has more than {MAX_PAIRS} pairs of schemas to compare in one request or answer")
            reasons, parts, is_choice = self.compared(sub, sup)
            left += [part for _, *part in parts]
            marked = [(step, (_mark(one), _mark(other))) for step, one, other in parts]
            self.pairs[mark] = Pair(reasons, marked, is_choice)
        return first

    def compared(self, sub, sup):
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

    def _each(self, choice, its_choices, sub, sup):
        """Find what each schema of a choice is compared with: the one of the same name, where a property names them.

        :param choice: of the schema ``sub``.
        :param its_choices: those of the schema ``sup``.
        :return: reasons and parts; see ``compared``.
        """
        its = next((one for one in its_choices if choice.tag and one.tag == choice.tag), None)
        reasons, parts, named = [], [], []
        for name, one in choice.named.items() if its else ():
            if name in its.named:
                step = f"({choice.tag}: {name})"
                parts.append((step, self.sub.both(sub, one), self.sup.both(sup, its.named[name])))
                named.append(one)
            elif self.is_request:
                reasons.append((f".{choice.tag}", "takes fewer values"))
                named.append(one)
        others = {_identity(one): one for each in its_choices for one in each.others} if self.by_name else {}
        for one in choice.others:
            if one in named:
                continue
            same = others.get(_identity(one))
            self.has_left_out |= same is not None
            parts.append(("", self.sub.both(sub, one), sup if same is None else self.sup.both(sup, same)))
        return reasons, parts

    def _eligible(self, choice, whole, sup):
        """List those of a choice that a schema may be one of: where a property tells them apart, what it may say.

        :param choice: of the schema ``sup``.
        :param whole: the other schema, as ``Schemas.whole`` gives it.
        """
        said = {name: self.sub.values(one) for name, one in whole.get("properties", {}).items()}
        others = [(one, self.sup.tags(one)) for one in (self.sup.both(sup, other) for other in choice.others)]
        for name, values in said.items():
            if values is not None and all(tags.get(name) is not None for _, tags in others):
                found = [one for one, tags in others if any(value in tags[name] for value in values)]
                if found:
                    return found
        return [one for one, _ in others]

    def failed(self):
        """Return the marks of the pairs of which the one does not fit the other."""
        wholes, left = {}, {}
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

    def told(self, mark, failed, seen=None, choices=0):
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


class Schemas:
    """The schemas of a document, each read once.

    :param document: the document.
    :param is_request: see ``_reasons``.
    """

    def __init__(self, document, is_request):
        self.document, self.is_request = document, is_request
        self._closures, self._wholes, self._tags, self._children = {}, {}, {}, None

    def whole(self, schema):
        """Return a schema with its references followed, what it is made of in one, and OpenAPI 3.0's words as 3.1's.

        :return: a schema without choices, and a list of ``Choice``. A choice is met, and left out, where the schema is
            made of one of those to choose from: a child is made of its parent, which says that it is one of its own.
        """
        mark = _mark(schema)
        if mark not in self._wholes:
            self._wholes[mark] = self._whole(schema)
        return self._wholes[mark]

    def _whole(self, schema):
        parts, made_of = self.closure(schema)
        found, choices, met = {}, [], {}
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
            if children and not any(_identity(one) in made_of for one in children):
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

    def closure(self, schema):
        """Find what a schema is made of: itself, what it refers to, and ``allOf``, each reference once.

        :return: a list of mappings, each with the reference that led to it; and what identifies each part, references
            included.
        """
        identity = _identity(schema)
        if identity in self._closures:
            return self._closures[identity]
        found, left, made_of = [], [(schema, None)], set()
        while left:
            one, reference = left.pop(0)
            if one is False:
                found.append(({"type": []}, None))
                made_of.add(_identity(one))
            elif _is_reference(one):
                others = _beside(one)
                # Since OpenAPI 3.1 a schema may say more beside a reference.
                is_new = one["$ref"] not in made_of
                target = [(leads_to(self.document, one["$ref"]), one["$ref"])] if is_new else []
                made_of.update((one["$ref"], _identity(one)))
                left[:0] = [*target, *([(others, None)] if others else [])]
            elif isinstance(one, dict):
                made_of.add(_identity(one))
                found.append(({key: item for key, item in one.items() if key != "allOf"}, reference))
                left[:0] = [(part, None) for part in one.get("allOf", [])]
        self._closures[identity] = found, made_of
        return found, made_of

    def both(self, one, other):
        """Return a schema of what is as two others say, the same each time that they are met so.

        Of two parts of which one is made of the other, the other says nothing more.
        """
        parts = []
        for part in (one, other):
            parts += part["allOf"] if isinstance(part, dict) and part.keys() == {"allOf"} else [part]
        parts = list({_identity(part): part for part in parts if part not in ({}, True)}.values())
        kept = list(parts)
        for part in parts:
            rest = [each for each in kept if each is not part]
            if any(_identity(part) in self.closure(each)[1] for each in rest):
                kept = rest
        return kept[0] if len(kept) == 1 else {"allOf": kept}

    def values(self, schema):
        """Return the only values that a schema allows, ``None`` where it does not list them."""
        return _values(self.whole(schema)[0])

    def tags(self, schema):
        """Return the values of each property of a schema, or ``None``; see ``values``."""
        mark = _mark(schema)
        if mark not in self._tags:
            properties = self.whole(schema)[0].get("properties", {})
            self._tags[mark] = {name: self.values(one) for name, one in properties.items()}
        return self._tags[mark]

    def _choice(self, others, discriminator):
        """Return a choice with what its schemas are called by the property that tells them apart, if there is one."""
        tag = discriminator.get("propertyName")
        if not isinstance(tag, str):
            return Choice(others)
        mapping = discriminator.get("mapping")
        called = {}
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

    def _own_values(self, reference, tag):
        """Return what a schema itself allows its property to say: of a parent's list, each child has one."""
        found = None
        for part, _ in self.closure({"$ref": reference})[0]:
            properties = part.get("properties")
            one = properties.get(tag) if isinstance(properties, dict) else None
            for each, _ in self.closure(one)[0] if one is not None else ():
                values = _values(each)
                if isinstance(values, list):
                    found = values if found is None else [value for value in found if value in values]
        # A parent's list of all of them names none.
        return found if found and len(found) == 1 else None

    def _children_of(self, reference):
        """List the schemas that are made of another one, which the document has by name."""
        if self._children is None:
            self._children = {}
            components = self.document.get("components")
            schemas = components.get("schemas") if isinstance(components, dict) else None
            for name in schemas if isinstance(schemas, dict) else ():
                own = SCHEMAS + name.replace("~", "~0").replace("/", "~1")
                for part in self.closure({"$ref": own})[1]:
                    if isinstance(part, str) and part != own:
                        self._children.setdefault(part, []).append({"$ref": own})
        return self._children.get(reference, [])

    def _is_met(self, one, made_of, met):
        """Tell whether a schema says no more than what another one is made of.

        :param one: the schema.
        :param made_of: as ``closure`` gives it.
        :param met: what is known of references already.
        """
        if one is None or one is True:
            return True
        if _identity(one) in made_of:
            return True
        if not isinstance(one, dict):
            return False
        if _is_reference(one):
            reference, others = one["$ref"], _beside(one)
            if reference in made_of:
                return not others or self._is_met(others, made_of, met)
            if reference not in met:
                # It may lead to itself.
                met[reference] = False
                met[reference] = self._is_met(leads_to(self.document, reference), made_of, met)
            return met[reference] and (not others or self._is_met(others, made_of, met))
        if one.keys() - {"allOf", "oneOf", "anyOf", *NOTES}:
            return False
        return all(self._is_met(part, made_of, met) for part in one.get("allOf", [])) and all(
            any(self._is_met(part, made_of, met) for part in one[word]) for word in ("oneOf", "anyOf") if one.get(word)
        )

    def _merged(self, one, other):
        """Return a schema that says what two say."""
        found = {**one, **other}
        if "type" in one and "type" in other:
            both = _types(one) & _types(other)
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
        values = [_values(each) for each in (one, other)]
        if all(isinstance(each, list) for each in values):
            found["enum"] = [value for value in values[0] if value in values[1]]
            found.pop("const", None)
        return found


def _types(schema):
    """Return the types that a schema allows: all, where it says none."""
    every = {"null", "boolean", "object", "array", "number", "integer", "string"}
    said = schema.get("type")
    found = every if said is None else {said} if isinstance(said, str) else set(said)
    return found | {"integer"} if "number" in found else found


def _type_reasons(sub, sup, is_request):
    others = _types(sub) - _types(sup)
    # Each integer is a number.
    shown = " or ".join(sorted(others - {"integer"} if "number" in others else others))
    if not others:
        return []
    if sub.get("type") is None:
        allowed = " or ".join(sorted(_types(sup)))
        return [("", f"may only be {allowed}" if is_request else f"may be more than {allowed}")]
    return [("", f"may no longer be {shown}" if is_request else f"may be {shown} now")]


def _required_reasons(sub, sup, is_request):
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


def _narrowing_reasons(sub, sup):
    found = []
    values = _values(sup)
    if values is not None:
        own = _values(sub)
        if own is None or any(value not in values for value in own):
            found.append(("", "takes fewer values"))
    for word, is_greater in BOUNDS.items():
        if word in sup and not _implies(sub.get(word), sup[word], is_greater):
            found.append(("", f"has another {word}"))
    if sup.get("uniqueItems") and not sub.get("uniqueItems"):
        found.append(("", "takes no repeats"))
    return found


def _values(schema):
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _implies(own, other, is_greater):
    return own is not None and (own >= other if is_greater else own <= other)


def _as_in_3_1(schema):
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
