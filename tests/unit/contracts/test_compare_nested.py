"""Schemas that hold each other: what one document takes away from the readers of another."""

import contextlib
import copy

import hypothesis
import pytest
from hypothesis import strategies as st

from saltern.contracts import compare


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
    # Only the replies change: before, a reply was a plain comment.
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
    """Return schemas that are choices or compositions of each other, with other keywords beside each reference."""

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
    """Return a document in which each schema contains the next one twice by ``allOf``."""
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

    # A text that is no schema may raise any of these: OpenAPI's own schema refuses it earlier.
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        compare.breaks(saying(schemas[0]), saying(schemas[0] if same else schemas[1]))


def reference(name):
    return {"$ref": f"#/components/schemas/{name}"}


def family(count, lists=True, tag=True, **parent):
    """Return a pet and its kinds, each made of the pet, as generators write them.

    :param lists: the pet lists its kinds by ``oneOf``.
    :param tag: a discriminator names the kind.
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
    """Return a document with one operation that takes a pet and one that answers with a pet."""
    content = {"content": {"application/json": {"schema": reference(root)}}}
    ways = {"post": {"requestBody": content, "responses": {}}, "get": {"responses": {"200": content}}}
    return {"openapi": "3.0.3", "paths": {"/pets": ways}, "components": {"schemas": schemas}}


SHAPES = {"listed, named": (True, True), "listed": (True, False), "named": (False, True)}


@pytest.mark.parametrize("count", [1, 2, 12, 60])
@pytest.mark.parametrize("shape", SHAPES)
def test_children_that_are_made_of_their_parent_are_compared(shape, count):
    old = family(count, *SHAPES[shape])
    assert compare.breaks(pets(old), pets(copy.deepcopy(old))) == []
    # Only one child changes.
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
    # A child has another name for the same value; then each child allows its own value, in place of a mapping.
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
        # A child of the first family is also a child of the second.
        schemas[f"One{number}"] = {"allOf": [reference("One"), reference("Two"), {"required": [f"one{number}"]}]}
        schemas[f"Two{number}"] = {"allOf": [reference("Two"), reference("One"), {"required": [f"two{number}"]}]}
    assert compare.breaks(pets(schemas, "One"), pets(copy.deepcopy(schemas), "One")) == []
    new = copy.deepcopy(schemas)
    new["Two7"]["allOf"].append({"required": ["more"]})
    assert compare.breaks(pets(schemas, "One"), pets(new, "One")) == ["POST /pets: request: more is required"]
