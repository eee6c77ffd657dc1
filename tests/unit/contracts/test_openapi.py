"""OpenAPI documents: how one is read, and what of it is tried."""

import pytest

from saltern.contracts import compare, openapi
from tests.unit.contracts.documents import document


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


def test_a_document_that_grows_when_it_is_read_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(ValueError, match="more than 200000 values"):
        openapi.parse("\n".join(lines))
    with pytest.raises(ValueError, match="larger than 2 MB"):
        openapi.parse("a: " + "x" * 2_000_000)
    with pytest.raises(ValueError, match="no YAML"):
        openapi.parse("a: &a [*a]")


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
