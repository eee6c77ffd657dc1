"""A host is told only what is for its roles."""

import pytest

from saltern.settings.schema import confined

SECRETS = {
    "properties": {
        "plain": {"type": "string"},
        "password": {"type": "string", "x-roles": ["database", "app"]},
        "config": {"type": "object", "x-roles": ["app"], "patternProperties": {".": {"type": "string"}}},
        "below": {"type": "object", "properties": {"key": {"type": "string", "x-roles": ["proxy"]}}},
    }
}


@pytest.mark.parametrize(
    "roles, told",
    [
        ([], {"plain": "a", "config": {}, "below": {}}),
        (["database"], {"plain": "a", "password": "b", "config": {}, "below": {}}),
        (["app"], {"plain": "a", "password": "b", "config": {"C": "c"}, "below": {}}),
        (["cache", "proxy"], {"plain": "a", "config": {}, "below": {"key": "d"}}),
    ],
)
def test_a_host_is_told_what_is_for_its_roles(roles, told):
    value = {"plain": "a", "password": "b", "config": {"C": "c"}, "below": {"key": "d"}}
    assert confined(SECRETS, value, roles) == told
