"""What one OpenAPI document takes away from the readers of another."""

import copy

import pytest

from saltern.contracts import compare, openapi
from tests.unit.contracts.documents import NEW, QUESTION, document

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
    # From v1 to v2 nothing breaks; from v2 back to v1 something does.
    assert compare.breaks(faq("v1"), moved) == []
    assert "POST /v1/create: answer 201: related is gone" in compare.breaks(moved, faq("v1"))


def test_a_difference_in_a_discarded_choice_is_told_where_it_counts():
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
