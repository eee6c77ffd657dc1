"""The OpenAPI documents of a build, and what is refused of them."""

import hashlib

import pytest

from saltern.builds.make import contracts
from saltern.refusal import Refusal
from tests.unit.builds.make.apps import CONTRACT, ROOT, record, refused


def test_a_build_says_which_contracts_it_has(shop, made, commit):
    assert record(made(shop))["contracts"] == {}
    others = {"openapi/README.md": "x", "openapi/shared.yaml": "- x", "other/v3.yaml": "x", "openapi/old/v4.yaml": "x"}
    commit(shop, {"openapi/v1.yaml": CONTRACT, "openapi/v2.yaml": CONTRACT.replace("shop", "Läden"), **others})
    said = record(made(shop))["contracts"]
    digest = hashlib.sha256(CONTRACT.encode()).hexdigest()
    assert said["v1"] == {"title": "shop", "version": "1.2", "sha256": digest}
    assert (said.keys(), said["v2"]["title"]) == ({"v1", "v2"}, "Läden")


CONTRACTS = {
    "no YAML": (
        "a: b: c",
        "openapi/v1.yaml: line 1: no YAML: 'mapping values are not allowed in this context'; expected an OpenAPI",
    ),
    "a list": ("- a", "openapi/v1.yaml: no mapping; expected an OpenAPI document"),
    "no version of OpenAPI": ("info: {}", "openapi/v1.yaml: openapi: expected a version 3.0 or 3.1"),
    "Swagger": (CONTRACT.replace("openapi: 3.1.0", "swagger: '2.0'"), "openapi: expected a version 3.0 or 3.1"),
    "no title": (CONTRACT.replace("title: shop, ", ""), 'openapi/v1.yaml: info: "title" is a required property'),
    "a status that is none": (CONTRACT.replace("200:", "ok:"), "openapi/v1.yaml: paths./v1/items.get.responses: "),
    "a reference to nothing": (
        CONTRACT.replace("schemas/Items", "schemas/None"),
        "openapi/v1.yaml: $ref #/components/schemas/None: leads to nothing; expected what is in the document",
    ),
    "a reference out of it": (
        CONTRACT.replace("#/components/schemas/Items", "shared.yaml#/Items"),
        "openapi/v1.yaml: $ref shared.yaml#/Items: leads out of the document; copy what it leads to",
    ),
    "a reference to an anchor": (
        CONTRACT.replace("#/components/schemas/Items", "#items"),
        "$ref #items: not followed; expected a $ref to a place, such as #/components/schemas/Comment",
    ),
    "a reference that moves": (
        CONTRACT.replace("Any: {}", 'Any: {$dynamicRef: "#items"}'),
        "$dynamicRef #items: not followed; expected a $ref to a place, such as #/components/schemas/Comment",
    ),
    "two documents": ("a: 1\n---\nb: 1\n", "line 2: no YAML: 'but found another document'"),
    "tabs": ("a:\n\tb: 1\n", "line 2: no YAML: 'found character that cannot start any token'"),
    "lists in lists": ("[" * 50_000, "openapi/v1.yaml: line 1: more than 100 lists and mappings inside each other"),
    "a key twice": (CONTRACT.replace("    Any:", "    Items:"), "line 11: 'Items' is there twice in one mapping"),
    "a number that JSON has not": (
        CONTRACT.replace("Any: {}", "Any: {maximum: .inf}"),
        "a number that JSON cannot say",
    ),
    "no operation": (
        CONTRACT.partition("paths:")[0] + "paths: {}\n",
        "openapi/v1.yaml: paths: describes no operation; expected one at least",
    ),
}


@pytest.mark.parametrize("text, message", CONTRACTS.values(), ids=CONTRACTS)
def test_a_contract_is_refused_that_is(text, message, shop, run, commit):
    commit(shop, {"openapi/v1.yaml": text})
    refused(run(shop), message)


def test_a_contract_that_holds_itself_is_taken(shop, made, commit):
    comment = '{type: object, properties: {replies: {type: array, items: {$ref: "#/components/schemas/Any"}}, '
    comment += 'parent: {$ref: "#/components/schemas/Any", readOnly: true}}}'
    commit(shop, {"openapi/v1.yaml": CONTRACT.replace("Any: {}", f"Any: {comment}")})
    assert record(made(shop))["contracts"]["v1"]["title"] == "shop"


def test_a_contract_that_cannot_be_judged_in_bounds_is_refused(monkeypatch):
    def late(function, *, seconds, megabytes):
        raise ValueError(f"takes longer than {seconds} s")

    monkeypatch.setattr(contracts.bounded, "call", late)
    with pytest.raises(Refusal, match=r"^openapi/v1\.yaml: takes longer than 30 s; expected an OpenAPI document$"):
        contracts.read_document("openapi/v1.yaml", CONTRACT)


def test_the_examples_contracts_are_valid():
    for version in ("v1", "v2"):
        text = (ROOT / f"examples/faq/openapi/{version}.yaml").read_text()
        assert contracts.read_document(version, text)["version"] == version[1:]
