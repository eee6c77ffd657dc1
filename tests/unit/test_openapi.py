"""OpenAPI documents: what is tried of them, and what one takes away from the readers of another."""

import copy
from pathlib import Path

import pytest

FAQ = Path(__file__).parents[2] / "examples/faq/openapi"


@pytest.fixture
def faq(openapi):
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
def test_readers_would_miss(openapi, changes, reasons):
    assert openapi.breaks(document(), document(**changes)) == reasons


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
def test_readers_would_miss_nothing(openapi, changes):
    assert openapi.breaks(document(), document(**changes)) == []


def test_a_change_behind_a_reference_of_the_same_name_is_seen(openapi):
    choice = {"oneOf": [{"$ref": "#/components/schemas/New"}, {"type": "string"}]}
    old = document(**{"components__schemas__Choice": choice})
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Choice"}}}}
    old["paths"]["/questions"]["post"]["requestBody"] = body
    new = copy.deepcopy(old)
    new["components"]["schemas"]["New"]["required"] = ["text", "kind"]
    assert openapi.breaks(old, new) == ["POST /questions: request: kind is required"]
    assert openapi.breaks(new, old) == []


def test_a_schema_that_holds_itself_is_compared(openapi):
    node = {
        "type": "object",
        "required": ["next"],
        "properties": {
            "next": {"anyOf": [{"$ref": "#/components/schemas/Question"}, {"type": "null"}]},
            "others": {"type": "array", "items": {"$ref": "#/components/schemas/Question"}},
        },
    }
    old, new = document(**{Q: node}), document(**{Q: node | {"required": []}})
    assert openapi.breaks(old, old) == []
    assert "GET /questions/{id}: answer 200: next may be missing" in openapi.breaks(old, new)


def test_openapi_3_0_says_the_same_in_other_words(openapi):
    old = document(**{f"{Q}__properties__tag": {"type": "string", "nullable": True}})
    assert openapi.breaks(old, document()) == openapi.breaks(document(), old) == []
    size = f"{N}__properties__size"
    exclusive = document(**{size: {"type": "number", "minimum": 1, "exclusiveMinimum": True}})
    assert openapi.breaks(exclusive, document(**{size: {"type": "number", "exclusiveMinimum": 1}})) == []
    assert openapi.breaks(document(), exclusive) == ["POST /questions: request: size has another exclusiveMinimum"]


def test_what_only_answers_hold_is_none_of_a_requests(openapi):
    both = {f"{N}__properties__id": {"type": "integer", "readOnly": True}, f"{N}__required": ["text", "id"]}
    assert openapi.breaks(document(), document(**both)) == []


def test_the_examples_documents(openapi, faq):
    assert list(openapi.operations(faq("v2"))) == [
        "POST /v2/create",
        "GET /v2/questions",
        "GET /v2/questions/{id}",
    ]
    moved = faq("v2")
    moved["paths"] = {path.replace("/v2/", "/v1/"): item for path, item in moved["paths"].items()}
    # What v2 adds would have broken nothing; what it takes away again would.
    assert openapi.breaks(faq("v1"), moved) == []
    assert "POST /v1/create: answer 201: related is gone" in openapi.breaks(moved, faq("v1"))


def test_only_what_reads_or_is_said_to_be_safe_is_tried(openapi, faq):
    assert list(openapi.operations(openapi.tried(faq("v1")))) == ["GET /v1/questions", "GET /v1/questions/{id}"]
    safe = faq("v1")
    safe["paths"]["/v1/create"]["post"]["x-safe"] = True
    assert "POST /v1/create" in openapi.operations(openapi.tried(safe))
    for word in ("true", 1, False):
        safe["paths"]["/v1/create"]["post"]["x-safe"] = word
        assert "POST /v1/create" not in openapi.operations(openapi.tried(safe))


def test_what_is_tried_has_whole_paths_and_no_servers(openapi):
    made = document(servers=[{"url": "https://{host}/{base}", "variables": {"base": {"default": "v3"}}}])
    part = openapi.tried(made)
    assert list(part["paths"]) == ["/v3/questions", "/v3/questions/{id}"]
    assert "servers" not in part
    assert list(openapi.operations(made)) == ["GET /v3/questions", "POST /v3/questions", "GET /v3/questions/{id}"]


def test_a_document_is_read_as_json_would_be(openapi):
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


def test_schemas_that_refer_to_each_other_are_compared_once(openapi):
    assert openapi.breaks(woven(12), woven(12, more={"type": "string"})) == []
    assert openapi.breaks(woven(12), woven(12, id={"type": "integer"})) == [
        "GET /s: answer 200: S1.S2.S3.S4.S5.S6.S7.S8.S9.S10.S11.id may be integer now"
    ]


def test_what_is_compared_as_it_is_may_refer_to_each_other_too(openapi):
    def asked(count, **last):
        one = woven(count, **last)
        body = {"content": {"application/json": {"schema": {"not": {"$ref": "#/components/schemas/S0"}}}}}
        one["paths"]["/s"]["post"] = {"requestBody": body, "responses": {}}
        return one

    assert openapi.breaks(asked(12), asked(12)) == []
    assert openapi.breaks(asked(12), asked(12, id={"type": "integer"})) == [
        "GET /s: answer 200: S1.S2.S3.S4.S5.S6.S7.S8.S9.S10.S11.id may be integer now",
        "POST /s: request: it has another not",
    ]


@pytest.mark.parametrize(
    "properties",
    [{"x": True}, {"x": False}, {"x": {"$ref": "#/components/schemas/Nothing"}}, {"x": {}}],
    ids=["all", "nothing", "a reference to nothing", "an empty one"],
)
def test_a_schema_may_be_less_than_a_mapping(openapi, properties):
    def saying(**more):
        schema = {"type": "object", "properties": properties | more}
        answer = {"content": {"application/json": {"schema": schema}}}
        return {"paths": {"/s": {"get": {"responses": {"200": answer}}}}}

    assert openapi.breaks(saying(), saying(y={"type": "string"})) == []


def test_a_schema_that_is_made_of_itself_is_compared(openapi):
    one = woven(1)
    one["components"]["schemas"]["S0"]["allOf"] = [{"$ref": "#/components/schemas/S0"}]
    assert openapi.breaks(one, copy.deepcopy(one)) == []


def test_a_document_that_grows_when_it_is_read_is_refused(openapi):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(ValueError, match="more than 200000 values"):
        openapi.parse("\n".join(lines))
    with pytest.raises(ValueError, match="larger than 2 MB"):
        openapi.parse("a: " + "x" * 2_000_000)
    with pytest.raises(ValueError, match="no YAML"):
        openapi.parse("a: &a [*a]")


def test_what_was_met_in_a_choice_that_came_to_nothing_is_told_where_it_counts(openapi):
    def saying(kind):
        part = {"$ref": "#/components/schemas/Part"}
        first = {"type": "object", "required": ["part", "first"], "properties": {"part": part}}
        other = {"type": "object"}
        properties = {"choice": {"oneOf": [first, other]}, "part": part}
        answer = {"content": {"application/json": {"schema": {"type": "object", "properties": properties}}}}
        schema = {"type": "object", "properties": {"id": {"type": kind}}}
        paths = {"/s": {"get": {"responses": {"200": answer}}}}
        return {"paths": paths, "components": {"schemas": {"Part": schema}}}

    assert openapi.breaks(saying("string"), saying("integer")) == ["GET /s: answer 200: part.id may be integer now"]
