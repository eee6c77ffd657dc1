"""OpenAPI documents: what they describe, what of it may be tried, and what one takes away from another's readers."""

import copy
import itertools
import re
from urllib.parse import unquote, urlsplit

import yaml

__load__ = ["breaks", "operations", "parse", "tried"]

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

# Deeper than this no schema is compared.
MAX_DEPTH = 30

# Characters that a document may have, and values, each time that an alias of YAML brings them in.
MAX_SIZE = 2_000_000
MAX_VALUES = 200_000


# PyYAML's C loader is many times as fast. Not every build has it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads what JSON can say: a date stays text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse(text):
    """Read a document.

    :param text: YAML, or JSON, which is YAML too.
    :return: the document. Its keys are text, as a status is that stands without quotes.
    :raises ValueError: when it is no YAML of a mapping, or too large a one.

    CLI Example: none, it serves the module contract and bin/build-release.
    """
    if len(text) > MAX_SIZE:
        raise ValueError(f"larger than {MAX_SIZE // 1_000_000} MB")
    try:
        found = _with_text_keys(yaml.load(text, _Loader), itertools.count(1))
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"line {mark.line + 1}: no YAML" if mark else "no YAML") from error
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return found


def _with_text_keys(value, counted):
    """Return a copy of a value, of which no part stands in two places, with text for keys."""
    if next(counted) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item, counted) for key, item in value.items()}
    return [_with_text_keys(item, counted) for item in value] if isinstance(value, list) else value


def operations(document):
    """List what a document describes.

    :param document: a document of OpenAPI 3 whose references are its own.
    :return: each operation by its method and whole path, such as ``GET /v1/questions/{id}``. Of its path it has the
        parameters too.

    CLI Example: none, it serves the module contract.
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

    CLI Example: none, it serves the module contract.
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
        if isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found


def _resolved(value, document):
    """Follow a reference, and those that it leads to."""
    for _ in range(MAX_DEPTH):
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            break
        found = leads_to(document, value["$ref"])
        found = {} if found is None else found
        others = {key: item for key, item in value.items() if key not in ("$ref", "description", "summary")}
        # Since OpenAPI 3.1 a schema may say more beside a reference.
        value = {"allOf": [found, others]} if others else found
    return value


def _alike(one, other, one_document, other_document, seen=None):
    """Tell whether two values say the same, with the references in them followed.

    :param seen: the pairs of references that were followed, since what they lead to may hold them.
    """
    seen = set() if seen is None else seen
    pair = _references(one, other)
    if pair:
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


def _references(one, other):
    """Return where two references lead, or ``None`` where one of the two is none, or says more beside it."""
    both = tuple(
        value["$ref"] if isinstance(value, dict) and value.keys() == {"$ref"} else None for value in (one, other)
    )
    return both if all(isinstance(reference, str) for reference in both) else None


# --- What a document takes away from another's readers ----------------------------------------------------------------


def breaks(old, new):
    """List what programs that are written for a document would miss in another one.

    What is added breaks nothing: an operation, what a request may hold, what an answer holds. Bounds and enumerations
    of answers are not compared: a reader is taken to bear a longer text.

    :param old: the document that they are written for.
    :param new: the other one.
    :return: a sentence for each, such as ``GET /v1/questions: answer 200: total is gone``.

    CLI Example: none, it serves the module contract.
    """
    found = []
    after = {_anonymous(name): one for name, one in operations(new).items()}
    for name, before in operations(old).items():
        own = after.get(_anonymous(name))
        if own is None:
            found.append(f"{name} is gone")
            continue
        reasons = _parameter_breaks(before, own, old, new, name)
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


def _parameter_breaks(before, own, old, new, name):
    found, after = [], _parameters(own, name)
    if "{" in name:
        # The other document may have other names for the parameters of the path.
        after = _parameters(own, next(n for n in operations(new) if _anonymous(n) == _anonymous(name)))
    there = _parameters(before, name)
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
    found = _uncovered(sub, sup, Comparison(sub_document, sup_document, is_request))
    return list(dict.fromkeys(f"{at.removeprefix('.') or 'it'} {what}" for at, what in found))


class Comparison:
    """Two documents, of which a schema of the one is compared with one of the other.

    :param sub: the document of what is sent.
    :param sup: the document of what is taken.
    :param is_request: see ``_reasons``.
    :param known: the pairs of references that were met. Schemas that hold each other are met again and again; what is
        said of a pair is said once.
    """

    def __init__(self, sub, sup, is_request, known=()):
        self.sub, self.sup, self.is_request, self.known = sub, sup, is_request, set(known)

    def apart(self):
        """Return another one, for a choice that may come to nothing."""
        return Comparison(self.sub, self.sup, self.is_request, self.known)


def _uncovered(sub, sup, of, depth=0):
    """List why something that one schema describes may not be what another one describes; see ``_reasons``.

    :param of: the comparison.
    :param depth: how many schemas this is in.
    :return: pairs of where, such as ``.questions[].id``, and what.
    """
    if depth > MAX_DEPTH:
        return []
    pair = _references(sub, sup)
    if pair is None:
        return _compared(sub, sup, of, depth)
    if pair in of.known:
        return []
    of.known.add(pair)
    return _compared(sub, sup, of, depth)


def _compared(sub, sup, of, depth):
    sub, sup = _whole(sub, of.sub, of.is_request), _whole(sup, of.sup, of.is_request)

    def below(one, other, step="", of=of):
        return [(f"{step}{at}", what) for at, what in _uncovered(one, other, of, depth + 1)]

    for word in ("oneOf", "anyOf"):
        if word in sub:
            rest = {key: value for key, value in sub.items() if key != word}
            return [reason for one in sub[word] for reason in below(_both(rest, one), sup)]
    for word in ("oneOf", "anyOf"):
        if word in sup:
            rest = {key: value for key, value in sup.items() if key != word}
            choices = [below(sub, _both(rest, one), of=of.apart()) for one in sup[word]]
            return min(choices, key=len) if choices else []

    found = _type_reasons(sub, sup, of.is_request)
    if found:
        return found
    found = _required_reasons(sub, sup, of.is_request)
    if of.is_request:
        found += _narrowing_reasons(sub, sup)
        for word in WHOLE:
            if word in sup and not _alike(sub.get(word), sup[word], of.sub, of.sup):
                found.append(("", f"has another {word}"))
    if "format" in sup and sub.get("format") != sup["format"]:
        found.append(("", "has another format"))
    for name, one in sup.get("properties", {}).items():
        if name in sub.get("properties", {}):
            found += below(sub["properties"][name], one, f".{name}")
    for word, step in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(sup.get(word), dict) and isinstance(sub.get(word), dict):
            found += below(sub[word], sup[word], step)
    return found


def _both(rest, one):
    return {"allOf": [rest, one]} if rest else one


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


def _whole(schema, document, is_request, made_of=()):
    """Return a schema with its references followed, what it is made of in one, and OpenAPI 3.0's words as 3.1's.

    :param made_of: the references that led here: one that is made of itself says nothing more by that.
    """
    if schema is True or not isinstance(schema, dict) or schema.get("$ref") in made_of:
        return {} if schema is not False else {"type": []}
    made_of = (*made_of, schema["$ref"]) if "$ref" in schema else made_of
    schema = _resolved(schema, document)
    if not isinstance(schema, dict):
        return {} if schema is not False else {"type": []}
    found = {key: value for key, value in schema.items() if key not in ("allOf", "nullable")}
    for bound in ("Minimum", "Maximum"):
        # In OpenAPI 3.0 it says of the bound beside it that it is one itself.
        is_exclusive = found.get(f"exclusive{bound}")
        if isinstance(is_exclusive, bool):
            del found[f"exclusive{bound}"]
            if is_exclusive and bound.lower() in found:
                found[f"exclusive{bound}"] = found.pop(bound.lower())
    if schema.get("nullable") and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    for part in schema.get("allOf", []):
        found = _merged(found, _whole(part, document, is_request, made_of))
    hidden = "readOnly" if is_request else "writeOnly"
    properties = found.get("properties", {})
    said = {name: _resolved(one, document) for name, one in properties.items()}
    left_out = {name for name, one in said.items() if isinstance(one, dict) and one.get(hidden) is True}
    if left_out:
        found["properties"] = {name: one for name, one in properties.items() if name not in left_out}
        found["required"] = [name for name in found.get("required", []) if name not in left_out]
    return found


def _merged(one, other):
    """Return a schema that says what two say."""
    found = {**one, **other}
    if "type" in one and "type" in other:
        both = _types(one) & _types(other)
        found["type"] = sorted(both)
    if "properties" in one and "properties" in other:
        found["properties"] = {**one["properties"], **other["properties"]}
        for name in one["properties"].keys() & other["properties"].keys():
            found["properties"][name] = {"allOf": [one["properties"][name], other["properties"][name]]}
    if "required" in one and "required" in other:
        found["required"] = [*one["required"], *(name for name in other["required"] if name not in one["required"])]
    for word, is_greater in BOUNDS.items():
        if word in one and word in other:
            found[word] = (max if is_greater else min)(one[word], other[word])
    return found
