"""OpenAPI documents: what is tried of them, and what one takes away from the readers of another."""

import contextlib
import copy
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from saltern.contracts import compare, openapi

FAQ = Path(__file__).parents[3] / "examples/faq/openapi"


@pytest.fixture
def faq():
    """Return a function that reads a document of the example."""
    return lambda version: openapi.parse((FAQ / f"{version}.yaml").read_text())


QUESTION = {
    "type": "object",
    "required": ["id", "text"],
    "properties": {
        "id": {"type": "integer"},
        "text": {"type": "string", "maxLength": 100},
        "tag": {"type": ["string", "null"]},
        "at": {"type": "string", "format": "date-time"},
    },
}
NEW = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string", "maxLength": 100},
        "kind": {"enum": ["how", "why"]},
        "size": {"type": "number", "minimum": 1},
    },
}


def document(**changes):
    """Return a document with a list, a question and a way to make one."""
    json = "application/json"
    answer = {"content": {json: {"schema": {"$ref": "#/components/schemas/Question"}}}}
    questions = {"type": "array", "items": {"$ref": "#/components/schemas/Question"}}
    listing = {
        "parameters": [
            {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
            {"name": "X-Client", "in": "header", "schema": {"type": "string"}},
        ],
        "responses": {"200": {"content": {json: {"schema": questions}}}, "400": {"description": "No."}},
    }
    read = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
        "responses": {"200": answer, "404": {"description": "None."}},
    }
    create = {
        "requestBody": {"content": {json: {"schema": {"$ref": "#/components/schemas/New"}}}},
        "responses": {"201": answer | {"headers": {"Location": {"required": True, "schema": {"type": "string"}}}}},
    }
    made = {
        "openapi": "3.1.0",
        "info": {"title": "faq", "version": "1"},
        "paths": {"/questions": {"get": listing, "post": create}, "/questions/{id}": {"get": read}},
        "components": {"schemas": {"Question": QUESTION, "New": NEW}},
    }
    made = copy.deepcopy(made)
    for path, value in changes.items():
        *way, last = path.replace("_slash_", "/").split("__")
        at = made
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if value is None:
            del at[int(last) if isinstance(at, list) else last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    return made


Q, N = "components__schemas__Question", "components__schemas__New"
LIST, CREATE = "paths___slash_questions__get", "paths___slash_questions__post"
BREAKS = {
    "an operation that is gone": ({CREATE: None}, ["POST /questions is gone"]),
    "a path that is gone": (
        {"paths": {}},
        ["GET /questions is gone", "POST /questions is gone", "GET /questions/{id} is gone"],
    ),
    "a new server path": (
        {"servers": [{"url": "/v9"}]},
        ["GET /questions is gone", "POST /questions is gone", "GET /questions/{id} is gone"],
    ),
    "a parameter that is gone": ({f"{LIST}__parameters__0": None}, ["GET /questions: query parameter limit is gone"]),
    "a parameter that is required": (
        {f"{LIST}__parameters__0__required": True},
        ["GET /questions: query parameter limit is required"],
    ),
    "a new parameter that is required": (
        {f"{LIST}__parameters__1": {"name": "q", "in": "query", "required": True, "schema": {}}},
        ["GET /questions: query parameter q is required", "GET /questions: header parameter x-client is gone"],
    ),
    "a parameter with another type": (
        {f"{LIST}__parameters__0__schema": {"type": "boolean"}},
        ["GET /questions: query parameter limit: it may no longer be integer"],
    ),
    "a parameter that takes less": (
        {f"{LIST}__parameters__0__schema__maximum": 50},
        ["GET /questions: query parameter limit: it has another maximum"],
    ),
    "a body that is required": (
        {f"{CREATE}__requestBody__required": True},
        ["POST /questions: request: a body is required"],
    ),
    "a media type that is gone": (
        {f"{CREATE}__requestBody__content": {"text/plain": {}}},
        ["POST /questions: request: application/json is gone"],
    ),
    "a property that is required": (
        {f"{N}__required": ["text", "kind"]},
        ["POST /questions: request: kind is required"],
    ),
    "a new property that is required": (
        {f"{N}__required": ["text", "who"], f"{N}__properties__who": {"type": "string"}},
        ["POST /questions: request: who is required"],
    ),
    "a property that is renamed": (
        {f"{N}__properties__kind": None, f"{N}__properties__sort": {}},
        ["POST /questions: request: kind is gone"],
    ),
    "a value that is gone": (
        {f"{N}__properties__kind": {"enum": ["how"]}},
        ["POST /questions: request: kind takes fewer values"],
    ),
    "an enumeration where there was none": (
        {f"{N}__properties__text__enum": ["a"]},
        ["POST /questions: request: text takes fewer values"],
    ),
    "a shorter text": (
        {f"{N}__properties__text__maxLength": 99},
        ["POST /questions: request: text has another maxLength"],
    ),
    "a pattern": ({f"{N}__properties__text__pattern": "a"}, ["POST /questions: request: text has another pattern"]),
    "a number that is now an integer": (
        {f"{N}__properties__size__type": "integer"},
        ["POST /questions: request: size may no longer be number"],
    ),
    "no other properties": (
        {f"{N}__additionalProperties": False},
        ["POST /questions: request: it takes no other properties"],
    ),
    "an answer's property that is gone": (
        {f"{Q}__properties__text": None, f"{Q}__required": ["id"]},
        [
            "GET /questions: answer 200: [].text is gone",
            "POST /questions: answer 201: text is gone",
            "GET /questions/{id}: answer 200: text is gone",
        ],
    ),
    "an answer's property that may be missing": (
        {f"{Q}__required": ["id"]},
        [
            "GET /questions: answer 200: [].text may be missing",
            "POST /questions: answer 201: text may be missing",
            "GET /questions/{id}: answer 200: text may be missing",
        ],
    ),
    "an answer with another type": (
        {f"{Q}__properties__id": {"type": "string"}, CREATE: None, LIST: None},
        ["GET /questions is gone", "POST /questions is gone", "GET /questions/{id}: answer 200: id may be string now"],
    ),
    "an answer that may be nothing": (
        {f"{Q}__properties__text__type": ["string", "null"], f"{LIST}__responses": {"200": {}}, CREATE: None},
        [
            "GET /questions: answer 200: application/json is gone",
            "POST /questions is gone",
            "GET /questions/{id}: answer 200: text may be null now",
        ],
    ),
    "an answer with another format": (
        {f"{Q}__properties__at__format": "date", CREATE: None, LIST: None},
        ["GET /questions is gone", "POST /questions is gone", "GET /questions/{id}: answer 200: at has another format"],
    ),
    "a success that is gone": (
        {f"{CREATE}__responses": {"200": {}}},
        ["POST /questions: answer 201 is gone"],
    ),
    "a header that is gone": (
        {f"{CREATE}__responses__201__headers": {}},
        ["POST /questions: answer 201: header Location is gone"],
    ),
    "authentication": (
        {f"{CREATE}__security": [{"key": []}]},
        ["POST /questions: asks for authentication"],
    ),
    "a property behind allOf": (
        {N: {"allOf": [NEW, {"required": ["kind"]}]}},
        ["POST /questions: request: kind is required"],
    ),
    "one choice of two, of which the other is gone": (
        {f"{N}__properties__size": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        ["POST /questions: request: size may no longer be number"],
    ),
}


@pytest.mark.parametrize("changes, reasons", BREAKS.values(), ids=BREAKS)
def test_readers_would_miss(changes, reasons):
    assert compare.breaks(document(), document(**changes)) == reasons


TAKEN = {
    "nothing": {},
    "another title": {"info__title": "questions"},
    "an operation more": {"paths___slash_more": {"get": {"responses": {"200": {}}}}},
    "an optional parameter more": {f"{LIST}__parameters__1__schema": {}, f"{LIST}__parameters__0__schema": {}},
    "another name for a path's parameter": {
        "paths___slash_questions/{id}": None,
        "paths___slash_questions/{pk}": {
            "get": {
                "parameters": [{"name": "pk", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}}}
                },
            }
        },
    },
    "an optional property more in a request": {f"{N}__properties__who": {"type": "string"}},
    "a property that need not be there": {f"{N}__required": []},
    "a longer text in a request": {f"{N}__properties__text__maxLength": 200},
    "a value more in a request": {f"{N}__properties__kind": {"enum": ["how", "why", "who"]}},
    "a wider type in a request": {f"{N}__properties__text": {"type": ["string", "null"]}},
    "a property more in an answer": {f"{Q}__properties__related": {"type": "array"}, f"{Q}__required": ["id", "text"]},
    "a required one more in an answer": {f"{Q}__required": ["id", "text", "tag"]},
    "a narrower type in an answer": {f"{Q}__properties__tag": {"type": "string"}},
    "a longer text in an answer": {f"{Q}__properties__text__maxLength": 1000},
    "another error": {f"{LIST}__responses__400": None},
    "a success more": {f"{CREATE}__responses__200": {}},
    "a media type more": {f"{CREATE}__requestBody__content__text/plain": {}},
    "a reference to the same": {
        "components__schemas__Other": QUESTION,
        Q: {"$ref": "#/components/schemas/Other", "description": "moved"},
    },
    "what was an object is one of two": {N: {"oneOf": [NEW, {"type": "string"}]}},
    "a server that says the same": {"servers": [{"url": "http://faq.example.com/"}]},
}


@pytest.mark.parametrize("changes", TAKEN.values(), ids=TAKEN)
def test_readers_would_miss_nothing(changes):
    assert compare.breaks(document(), document(**changes)) == []


def test_a_change_behind_a_reference_of_the_same_name_is_seen():
    choice = {"oneOf": [{"$ref": "#/components/schemas/New"}, {"type": "string"}]}
    old = document(**{"components__schemas__Choice": choice})
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Choice"}}}}
    old["paths"]["/questions"]["post"]["requestBody"] = body
    new = copy.deepcopy(old)
    new["components"]["schemas"]["New"]["required"] = ["text", "kind"]
    assert compare.breaks(old, new) == ["POST /questions: request: kind is required"]
    assert compare.breaks(new, old) == []


def test_a_schema_that_holds_itself_is_compared():
    node = {
        "type": "object",
        "required": ["next"],
        "properties": {
            "next": {"anyOf": [{"$ref": "#/components/schemas/Question"}, {"type": "null"}]},
            "others": {"type": "array", "items": {"$ref": "#/components/schemas/Question"}},
        },
    }
    old, new = document(**{Q: node}), document(**{Q: node | {"required": []}})
    assert compare.breaks(old, old) == []
    assert "GET /questions/{id}: answer 200: next may be missing" in compare.breaks(old, new)


def test_openapi_3_0_says_the_same_in_other_words():
    old = document(**{f"{Q}__properties__tag": {"type": "string", "nullable": True}})
    assert compare.breaks(old, document()) == compare.breaks(document(), old) == []
    size = f"{N}__properties__size"
    exclusive = document(**{size: {"type": "number", "minimum": 1, "exclusiveMinimum": True}})
    assert compare.breaks(exclusive, document(**{size: {"type": "number", "exclusiveMinimum": 1}})) == []
    assert compare.breaks(document(), exclusive) == ["POST /questions: request: size has another exclusiveMinimum"]


def test_what_only_answers_hold_is_none_of_a_requests():
    both = {f"{N}__properties__id": {"type": "integer", "readOnly": True}, f"{N}__required": ["text", "id"]}
    assert compare.breaks(document(), document(**both)) == []


def test_the_examples_documents(faq):
    assert list(openapi.operations(faq("v2"))) == [
        "POST /v2/create",
        "GET /v2/questions",
        "GET /v2/questions/{id}",
    ]
    moved = faq("v2")
    moved["paths"] = {path.replace("/v2/", "/v1/"): item for path, item in moved["paths"].items()}
    # What v2 adds would have broken nothing; what it takes away again would.
    assert compare.breaks(faq("v1"), moved) == []
    assert "POST /v1/create: answer 201: related is gone" in compare.breaks(moved, faq("v1"))


def test_only_what_reads_or_is_said_to_be_safe_is_tried(faq):
    assert list(openapi.operations(openapi.tried(faq("v1")))) == ["GET /v1/questions", "GET /v1/questions/{id}"]
    safe = faq("v1")
    safe["paths"]["/v1/create"]["post"]["x-safe"] = True
    assert "POST /v1/create" in openapi.operations(openapi.tried(safe))
    for word in ("true", 1, False):
        safe["paths"]["/v1/create"]["post"]["x-safe"] = word
        assert "POST /v1/create" not in openapi.operations(openapi.tried(safe))


def test_what_is_tried_has_whole_paths_and_no_servers():
    made = document(servers=[{"url": "https://{host}/{base}", "variables": {"base": {"default": "v3"}}}])
    part = openapi.tried(made)
    assert list(part["paths"]) == ["/v3/questions", "/v3/questions/{id}"]
    assert "servers" not in part
    assert list(openapi.operations(made)) == ["GET /v3/questions", "POST /v3/questions", "GET /v3/questions/{id}"]


def test_a_document_is_read_as_json_would_be():
    read = openapi.parse("paths:\n  /:\n    get:\n      responses:\n        200: {description: 2026-01-01}\n")
    assert read["paths"]["/"]["get"]["responses"] == {"200": {"description": "2026-01-01"}}
    for text, reason in (("- a", "no mapping"), ("a: b: c", "line 1: no YAML"), ("a: !x b", "line 1: no YAML")):
        with pytest.raises(ValueError, match=reason):
            openapi.parse(text)


def woven(count, **last):
    """Return a document whose schemas all refer to each other."""
    names = [f"S{n}" for n in range(count)]
    schemas = {
        name: {
            "type": "object",
            "required": ["id"],
            "properties": {other: {"$ref": f"#/components/schemas/{other}"} for other in names}
            | {"id": {"type": "string"}},
        }
        for name in names
    }
    schemas[names[-1]]["properties"] |= last
    answer = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}
    return {"paths": {"/s": {"get": {"responses": {"200": answer}}}}, "components": {"schemas": schemas}}


def test_schemas_that_refer_to_each_other_are_compared_once():
    assert compare.breaks(woven(12), woven(12, more={"type": "string"})) == []
    assert compare.breaks(woven(12), woven(12, id={"type": "integer"})) == [
        "GET /s: answer 200: S11.id may be integer now"
    ]


def test_what_is_compared_as_it_is_may_refer_to_each_other_too():
    def asked(count, **last):
        one = woven(count, **last)
        body = {"content": {"application/json": {"schema": {"not": {"$ref": "#/components/schemas/S0"}}}}}
        one["paths"]["/s"]["post"] = {"requestBody": body, "responses": {}}
        return one

    assert compare.breaks(asked(12), asked(12)) == []
    assert compare.breaks(asked(12), asked(12, id={"type": "integer"})) == [
        "GET /s: answer 200: S11.id may be integer now",
        "POST /s: request: it has another not",
    ]


@pytest.mark.parametrize(
    "properties",
    [{"x": True}, {"x": False}, {"x": {"$ref": "#/components/schemas/Nothing"}}, {"x": {}}],
    ids=["all", "nothing", "a reference to nothing", "an empty one"],
)
def test_a_schema_may_be_less_than_a_mapping(properties):
    def saying(**more):
        schema = {"type": "object", "properties": properties | more}
        answer = {"content": {"application/json": {"schema": schema}}}
        return {"paths": {"/s": {"get": {"responses": {"200": answer}}}}}

    assert compare.breaks(saying(), saying(y={"type": "string"})) == []


def test_a_schema_that_is_made_of_itself_is_compared():
    one = woven(1)
    one["components"]["schemas"]["S0"]["allOf"] = [{"$ref": "#/components/schemas/S0"}]
    assert compare.breaks(one, copy.deepcopy(one)) == []


def test_a_document_that_grows_when_it_is_read_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(ValueError, match="more than 200000 values"):
        openapi.parse("\n".join(lines))
    with pytest.raises(ValueError, match="larger than 2 MB"):
        openapi.parse("a: " + "x" * 2_000_000)
    with pytest.raises(ValueError, match="no YAML"):
        openapi.parse("a: &a [*a]")


def test_what_was_met_in_a_choice_that_came_to_nothing_is_told_where_it_counts():
    def saying(kind):
        part = {"$ref": "#/components/schemas/Part"}
        first = {"type": "object", "required": ["part", "first"], "properties": {"part": part}}
        other = {"type": "object"}
        properties = {"choice": {"oneOf": [first, other]}, "part": part}
        answer = {"content": {"application/json": {"schema": {"type": "object", "properties": properties}}}}
        schema = {"type": "object", "properties": {"id": {"type": kind}}}
        paths = {"/s": {"get": {"responses": {"200": answer}}}}
        return {"paths": paths, "components": {"schemas": {"Part": schema}}}

    assert compare.breaks(saying("string"), saying("integer")) == ["GET /s: answer 200: part.id may be integer now"]


# --- Documents that hold themselves, and documents that somebody made to break whoever reads them ---------------------


def thread(**reply):
    """Return a document of comments, each with its replies and its parent, as most forums have them."""
    comment = {"$ref": "#/components/schemas/Comment"}
    schema = {
        "type": "object",
        "required": ["text"],
        "properties": {
            "text": {"type": "string"},
            "replies": {"type": "array", "items": comment, "readOnly": True},
            # Since OpenAPI 3.1 a reference may have words beside it.
            "parent": comment | {"readOnly": True},
            "first": comment | {"deprecated": True},
            "last": {"allOf": [comment], "description": "The newest."},
            "pinned": {"oneOf": [comment, {"type": "null"}]},
            "best": {"anyOf": [{"allOf": [comment, {"required": ["text"]}]}, {"type": "null"}]},
        },
    }
    schema["properties"] |= reply
    body = {"content": {"application/json": {"schema": comment}}}
    paths = {"/c": {"post": {"requestBody": body, "responses": {"201": body}}}}
    return {"openapi": "3.1.0", "paths": paths, "components": {"schemas": {"Comment": schema}}}


def test_a_comment_with_replies_is_compared():
    assert compare.breaks(thread(), thread()) == []
    assert compare.breaks(thread(), thread(likes={"type": "integer"})) == []
    assert compare.breaks(thread(), thread(text={"type": "integer"})) == [
        "POST /c: request: text may no longer be string",
        "POST /c: answer 201: text may be integer now",
    ]
    # In its replies alone: a reply was a comment.
    reply = {"allOf": [{"$ref": "#/components/schemas/Comment"}, {"required": ["first"]}]}
    assert compare.breaks(thread(), thread(last=reply)) == ["POST /c: request: last.first is required"]
    assert compare.breaks(thread(last=reply), thread()) == ["POST /c: answer 201: last.first may be missing"]


def test_what_a_request_does_not_hold_is_left_out_beside_a_reference_too():
    comment = {"$ref": "#/components/schemas/Comment"}
    gone = {"parent": {"type": "string", "readOnly": True}}
    assert compare.breaks(thread(), thread(**gone)) == ["POST /c: answer 201: parent may be string now"]
    hidden = {"allOf": [comment, {"writeOnly": True}]}
    assert compare.breaks(thread(last=hidden), thread(last={"type": "string", "writeOnly": True})) == [
        "POST /c: request: last may no longer be object"
    ]


def entangled(count, width, **last):
    """Return schemas of which each is one of several, or made of several, that hold all others beside a word."""

    def to(number):
        return {"$ref": f"#/components/schemas/S{number % count}", "description": "x", "readOnly": False}

    schemas = {}
    for number in range(count):
        choice = [
            {"type": "object", "properties": {"a": to(number + step), "b": to(number * step + 1)}}
            for step in range(1, width + 1)
        ]
        made = {"allOf": [to(number + 1), {"type": "object"}]}
        schemas[f"S{number}"] = {"oneOf": choice} if number % 3 else {"type": "object", "properties": {"m": made}}
    schemas["S0"] |= last
    body = {"content": {"application/json": {"schema": to(0)}}}
    paths = {"/e": {"post": {"requestBody": body, "responses": {"200": body}}}}
    return {"paths": paths, "components": {"schemas": schemas}}


@pytest.mark.parametrize("count, width", [(3, 2), (6, 3), (12, 4), (24, 2)])
def test_choices_of_schemas_that_hold_each_other_are_compared(count, width):
    assert compare.breaks(entangled(count, width), entangled(count, width)) == []
    stricter = entangled(count, width, required=["m"])
    assert compare.breaks(entangled(count, width), stricter)[0] == "POST /e: request: m is required"


def test_each_of_two_choices_must_be_met():
    def saying(*choices):
        schema = {"allOf": [{"oneOf": [{"type": kind} for kind in kinds]} for kinds in choices]}
        body = {"content": {"application/json": {"schema": schema}}}
        return {"paths": {"/s": {"post": {"requestBody": body, "responses": {}}}}}

    both = saying(["string", "null"], ["string", "integer"])
    assert compare.breaks(both, both) == []
    assert compare.breaks(saying(["string"]), both) == []
    assert compare.breaks(saying(["null"]), both) == ["POST /s: request: it may no longer be null"]


def diamonds(count):
    """Return a document in which each schema is made of the next one, twice."""
    schemas = {
        f"S{n}": {"allOf": [{"$ref": f"#/components/schemas/S{n + 1}"}, {"$ref": f"#/components/schemas/S{n + 1}"}]}
        for n in range(count)
    }
    schemas[f"S{count}"] = {"type": "string"}
    answer = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}
    return {"paths": {"/s": {"get": {"responses": {"200": answer}}}}, "components": {"schemas": schemas}}


def test_what_is_made_of_the_same_again_and_again_is_compared():
    assert compare.breaks(diamonds(200), diamonds(200)) == []


def test_a_long_row_of_schemas_is_compared():
    def row(count, kind):
        schemas = {
            f"S{n}": {"type": "object", "properties": {"next": {"$ref": f"#/components/schemas/S{n + 1}"}}}
            for n in range(count)
        }
        schemas[f"S{count}"] = {"type": kind}
        answer = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}
        return {"paths": {"/s": {"get": {"responses": {"200": answer}}}}, "components": {"schemas": schemas}}

    assert compare.breaks(row(3000, "string"), row(3000, "string")) == []
    [reason] = compare.breaks(row(3000, "string"), row(3000, "integer"))
    assert reason.endswith("next.next may be integer now") and len(reason) < 200


def test_references_that_lead_to_each_other_or_nowhere_are_borne():
    for target in ("#/components/schemas/A", "#/components/schemas/B", "#", "other.yaml#/A", "http://a/b", "#/²/0"):
        one = thread(last={"$ref": target}, first={"$ref": "#/components/schemas/B"})
        one["components"]["schemas"] |= {
            "A": {"$ref": "#/components/schemas/B"},
            "B": {"$ref": "#/components/schemas/A"},
        }
        assert compare.breaks(one, copy.deepcopy(one)) == []


DEEP, FEW = 50_000, 99
BOMB = "x0: &a0 {k0: 1, k1: 2, k2: 3}\n" + "".join(
    f"x{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)
MADE_UP = {
    "lists in lists": ("[" * DEEP + "]" * DEEP, "line 1: more than 100 lists and mappings"),
    "mappings in mappings": ('{"a":' * DEEP + "1" + "}" * DEEP, "line 1: more than 100 lists and mappings"),
    "lists that never end": ("[" * DEEP, "more than 100 lists and mappings|no YAML"),
    "keys in keys": ("? " * DEEP + "a", "more than 100 lists and mappings"),
    "indented lists": ("- " * DEEP + "a", "more than 100 lists and mappings"),
    "a list that holds itself": ("a: &a [*a]", "no YAML"),
    "a mapping that holds itself": ("a: &a {b: *a}", "no YAML"),
    "keys that grow as they are merged": (BOMB, "more than 200000 values"),
    "a number of a million digits": ("a: " + "1" * 1_000_000, "digits"),
    "no number": ("a: .nan", "a number that JSON cannot say"),
    "a set": ("a: !!set {b, c}", r"a value that JSON cannot say \(set\)"),
    "bytes": ("a: !!binary aGFsbG8=", r"a value that JSON cannot say \(bytes\)"),
    "an object of Python": ("a: !!python/object/apply:os.system [id]", "line 1: no YAML"),
    "a list as a key": ("[a]: b", "line 1: no YAML"),
    "a tag without a value": ("a: !!int ''", "no YAML|cannot be read"),
    "two documents": ("a: 1\n---\na: 2\n", "no YAML"),
    "nothing": ("", "no mapping"),
    "a control character": ("a: '\x01'", "no YAML"),
}


@pytest.mark.parametrize("text, reason", MADE_UP.values(), ids=MADE_UP)
def test_a_document_that_is_made_to_break_its_reader_is_refused(text, reason):
    for ask in (openapi.described, openapi.part, lambda text: compare.broken("paths: {}", text)):
        with pytest.raises(ValueError, match=reason):
            ask(text)


def test_a_document_of_the_release_that_serves_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match="that of the release that serves: line 1: no YAML"):
        compare.broken("a: b: c", "paths: {}")


def test_what_nests_as_deep_as_it_may_is_read():
    assert openapi.parse("a: " + "[" * FEW + "]" * FEW)


def test_a_key_that_is_there_twice_is_refused_where_it_is_asked_for():
    text = "paths:\n  /a: {get: {}}\n  /b: {get: {}}\n  /a: {put: {}}\n"
    assert set(openapi.operations(openapi.parse(text))) == {"GET /b", "PUT /a"}
    with pytest.raises(ValueError, match="line 4: '/a' is there twice in one mapping"):
        openapi.parse(text, is_strict=True)
    fine = "a: {x: 1, y: [x, x]}\nb: {x: {x: 1}}\n? [c, c]\n: 1\n"
    with pytest.raises(ValueError, match="no YAML"):
        openapi.parse(fine, is_strict=True)
    assert openapi.parse(fine.partition("?")[0], is_strict=True)["b"] == {"x": {"x": 1}}


WORDS = ["type", "properties", "required", "allOf", "oneOf", "anyOf", "not", "items", "enum", "const", "$ref"]
WORDS += ["readOnly", "nullable", "minimum", "exclusiveMinimum", "additionalProperties", "format", "a", "b"]
KINDS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["object", "string", "a", "#/components/schemas/S0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@hypothesis.given(st.lists(KINDS, min_size=2, max_size=4), st.booleans())
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
def test_whatever_stands_in_a_schema_comparing_it_ends(schemas, same):
    def saying(first):
        named = {f"S{n}": schema for n, schema in enumerate([first, *schemas])}
        body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0", "title": "x"}}}}
        paths = {"/s": {"post": {"requestBody": body, "responses": {"200": body}}}}
        return {"paths": paths, "components": {"schemas": named}}

    # What is no schema may be refused by any error, and does not get by OpenAPI's own schema.
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        compare.breaks(saying(schemas[0]), saying(schemas[0] if same else schemas[1]))


def reference(name):
    return {"$ref": f"#/components/schemas/{name}"}


def family(count, lists=True, tag=True, **parent):
    """Return a pet and its kinds, each made of the pet, as generators write them.

    :param lists: the pet says that it is one of its kinds.
    :param tag: a property says which kind it is.
    """
    names = [f"Kind{number}" for number in range(count)]
    pet = {
        "type": "object",
        "required": ["id", "kind"],
        "properties": {"id": {"type": "integer"}, "kind": {"type": "string"}, "friend": reference("Pet")},
        **parent,
    }
    if lists:
        pet["oneOf"] = [reference(name) for name in names]
    if tag:
        mapping = {name.lower(): reference(name)["$ref"] for name in names}
        pet["discriminator"] = {"propertyName": "kind", "mapping": mapping}
    schemas = {"Pet": pet}
    for number, name in enumerate(names):
        own = {
            "size": {"type": "integer"},
            f"own{number}": {"type": "string"},
            "data": {"type": "object", "properties": {"note": {"type": "string", "maxLength": 10 + number}}},
            "next": reference(names[(number + 1) % count]),
            "all": {"type": "array", "items": reference("Pet")},
        }
        schemas[name] = {"allOf": [reference("Pet"), {"type": "object", "required": ["size"], "properties": own}]}
    return schemas


def pets(schemas, root="Pet"):
    """Return a document that takes a pet, and answers with one."""
    content = {"content": {"application/json": {"schema": reference(root)}}}
    ways = {"post": {"requestBody": content, "responses": {}}, "get": {"responses": {"200": content}}}
    return {"openapi": "3.0.3", "paths": {"/pets": ways}, "components": {"schemas": schemas}}


SHAPES = {"listed, named": (True, True), "listed": (True, False), "named": (False, True)}


@pytest.mark.parametrize("count", [1, 2, 12, 60])
@pytest.mark.parametrize("shape", SHAPES)
def test_children_that_are_made_of_their_parent_are_compared(shape, count):
    old = family(count, *SHAPES[shape])
    assert compare.breaks(pets(old), pets(copy.deepcopy(old))) == []
    # It changes in one child alone.
    middle, new = count // 2, copy.deepcopy(old)
    new[f"Kind{middle}"]["allOf"][1]["required"] = [f"own{middle}"]
    where = f"(kind: kind{middle})." if SHAPES[shape][1] else ""
    assert compare.breaks(pets(old), pets(new)) == [
        f"GET /pets: answer 200: {where}size may be missing",
        f"POST /pets: request: {where}own{middle} is required",
    ]
    del new[f"Kind{middle}"]["allOf"][1]["properties"]["size"]
    assert f"GET /pets: answer 200: {where}size is gone" in compare.breaks(pets(old), pets(new))


@pytest.mark.parametrize("lists", [True, False])
def test_a_child_is_compared_with_what_is_named_the_same(lists):
    old = family(3, lists)
    more, fewer = family(4, lists), family(2, lists)
    for schemas in (old, more, fewer):
        for name in schemas.keys() - {"Pet"}:
            schemas[name]["allOf"][1]["properties"]["next"] = reference("Kind0")
    assert compare.breaks(pets(old), pets(more)) == []
    assert compare.breaks(pets(old), pets(fewer)) == ["POST /pets: request: kind takes fewer values"]
    # By another name for the same value, and with the values that the children allow themselves in place of a mapping.
    renamed = copy.deepcopy(old)
    renamed["Hound"] = renamed.pop("Kind2")
    renamed["Pet"]["discriminator"]["mapping"]["kind2"] = "Hound"
    if lists:
        renamed["Pet"]["oneOf"][2] = reference("Hound")
    assert compare.breaks(pets(old), pets(renamed)) == []
    if lists:
        said = copy.deepcopy(renamed)
        del said["Pet"]["discriminator"]["mapping"]
        for name, value in {"Kind0": "kind0", "Kind1": "kind1", "Hound": "kind2"}.items():
            said[name]["allOf"][1]["properties"]["kind"] = {"enum": [value]}
        assert compare.breaks(pets(renamed), pets(copy.deepcopy(said))) == [
            f"POST /pets: request: (kind: kind{number}).kind takes fewer values" for number in range(3)
        ]
        assert compare.breaks(pets(said), pets(renamed)) == []


def test_children_have_children_and_parents_hold_each_other():
    made_of = {"Dog": "Pet", "Cat": "Pet", "Puppy": "Dog", "Hound": "Dog", "Whelp": "Puppy"}
    schemas = {"Pet": {"type": "object", "properties": {"home": reference("Home")}, "oneOf": [reference("Group")]}}
    schemas["Group"] = {"oneOf": [reference("Dog"), reference("Alias")], "description": "Of pets."}
    schemas["Alias"] = reference("Cat")
    schemas["Home"] = {"properties": {"pets": {"type": "array", "items": reference("Pet")}, "of": reference("Puppy")}}
    for name, parent in made_of.items():
        schemas[name] = {"allOf": [reference(parent), {"properties": {name.lower(): {"type": "string"}}}]}
    schemas["Dog"]["oneOf"] = [reference("Puppy"), {"allOf": [reference("Hound")]}]
    schemas["Puppy"]["anyOf"] = [reference("Whelp"), {"$ref": "#/components/schemas/Whelp", "description": "Again."}]
    assert compare.breaks(pets(schemas), pets(copy.deepcopy(schemas))) == []
    assert compare.breaks(pets(schemas, "Whelp"), pets(copy.deepcopy(schemas), "Whelp")) == []
    new = copy.deepcopy(schemas)
    new["Whelp"]["allOf"][1]["properties"]["whelp"] = {"type": "integer"}
    for root in ("Pet", "Whelp", "Group"):
        assert [reason for reason in compare.breaks(pets(schemas, root), pets(new, root)) if "home" not in reason] == [
            "GET /pets: answer 200: whelp may be integer now",
            "POST /pets: request: whelp may no longer be string",
        ]


def test_two_families_that_hold_each_other_are_compared():
    schemas = {
        "One": {
            "oneOf": [reference(f"One{number}") for number in range(12)],
            "properties": {"one": {"type": "string"}},
        },
        "Two": {
            "oneOf": [reference(f"Two{number}") for number in range(12)],
            "properties": {"two": {"type": "string"}},
        },
    }
    for number in range(12):
        # What is one of the first family is one of the other too.
        schemas[f"One{number}"] = {"allOf": [reference("One"), reference("Two"), {"required": [f"one{number}"]}]}
        schemas[f"Two{number}"] = {"allOf": [reference("Two"), reference("One"), {"required": [f"two{number}"]}]}
    assert compare.breaks(pets(schemas, "One"), pets(copy.deepcopy(schemas), "One")) == []
    new = copy.deepcopy(schemas)
    new["Two7"]["allOf"].append({"required": ["more"]})
    assert compare.breaks(pets(schemas, "One"), pets(new, "One")) == ["POST /pets: request: more is required"]
