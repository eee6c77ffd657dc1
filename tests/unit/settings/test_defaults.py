"""Defaults complete what the pillar does not say."""

import copy

import pytest

from saltern.settings.check import check
from saltern.settings.defaults import with_defaults
from saltern.settings.schema import fixed

DEFAULTS_SCHEMA = {
    "type": "object",
    "properties": {
        "gzip": {"type": "boolean", "default": True},
        "networks": {"type": "array", "default": [], "items": {"properties": {"open": {"default": False}}}},
        "site": {"type": "object", "properties": {"timeout": {"type": "integer", "default": 60}}},
        "build": {"type": "object", "x-optional": True, "properties": {"python": {"default": "3.11"}}},
        "owner": {"type": "string"},
    },
    "patternProperties": {"^app-": {"type": "object", "properties": {"port": {"default": 80}}}},
}
COMPLETE = {"gzip": True, "networks": [], "site": {"timeout": 60}}
COMPLETED = {
    "nothing": ({}, COMPLETE),
    "a default that is overlaid": ({"gzip": False}, COMPLETE | {"gzip": False}),
    "a mapping that is half given": ({"site": {}}, COMPLETE),
    "a setting without a default": ({"owner": "shop"}, COMPLETE | {"owner": "shop"}),
    "an optional mapping, once it is given": ({"build": {}}, COMPLETE | {"build": {"python": "3.11"}}),
    "items of a list": ({"networks": [{}, {"open": True}]}, COMPLETE | {"networks": [{"open": False}, {"open": True}]}),
    "named like a pattern": ({"app-a": {}}, COMPLETE | {"app-a": {"port": 80}}),
}


@pytest.mark.parametrize("given_value, expected", COMPLETED.values(), ids=COMPLETED)
def test_defaults_complete_what_is_not_given(given_value, expected):
    before = copy.deepcopy(given_value)
    assert with_defaults(DEFAULTS_SCHEMA, given_value) == expected
    assert given_value == before


def test_a_default_is_a_new_value_each_time():
    with_defaults(DEFAULTS_SCHEMA, {})["networks"].append("10.0.0.0/8")
    assert with_defaults(DEFAULTS_SCHEMA, {}) == COMPLETE


SHORT = {
    "patternProperties": {
        "^/": {
            "x-short": "process",
            "type": "object",
            "properties": {
                "process": {"type": "string", "pattern": "^[a-z]+\\Z"},
                "idle": {"type": "integer", "default": 60},
            },
        }
    },
    "type": "object",
}


def test_a_mapping_that_is_said_by_one_value_is_completed_as_one():
    assert with_defaults(SHORT, {"/a": "asgi", "/b": {"process": "web", "idle": 1}}) == {
        "/a": {"idle": 60, "process": "asgi"},
        "/b": {"process": "web", "idle": 1},
    }
    assert check({"app": SHORT}, {"app": {"/a": "asgi"}}) == []
    (told,) = check({"app": SHORT}, {"app": {"/a": "ASGI"}})
    assert told.startswith("app./a.process: not acceptable")
    assert fixed(SHORT, {"/a": "asgi"}, ["app"]) == [["app", "/a", "process"]]
