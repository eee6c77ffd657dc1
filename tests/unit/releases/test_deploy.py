"""What a deploy makes of a plan."""

import pytest

from saltern.releases.deploy import is_ill

PRUNED = {"pruned": {"releases": ["v1"], "builds": ["0" * 12]}}
CHANGES = {
    "nothing": ({}, False),
    "a process that does not answer yet": ({"shop.v2.web.1": {"old": "HTTP 503", "new": "healthy"}}, True),
    "what an ended run left": ({"/etc/supervisor/conf.d/shop.v1.conf": {"old": "left behind", "new": None}}, False),
    "what is pruned": (PRUNED, False),
    "both": (PRUNED | {"shop.v2.web.1": {"old": "HTTP 503", "new": "healthy"}}, True),
}


@pytest.mark.parametrize("changes, ill", CHANGES.values(), ids=CHANGES)
def test_only_a_process_that_has_yet_to_become_healthy_is_ill(changes, ill):
    assert is_ill(changes) is ill
