"""The settings of a formula, as a host's pillar has them."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern.settings import load


def test_load_gives_a_copy_of_one_formula():
    pillar = {"nginx": {"sites": {}}, "_declared": []}
    load.loaded(pillar, "nginx")["sites"]["shop"] = 1
    assert pillar["nginx"] == {"sites": {}}


@pytest.mark.parametrize(
    "pillar, message",
    [
        ({"_declared": []}, "nginx: no formula has this name"),
        (
            {"nginx": {}},
            "the pillar was not checked; expected ext_pillar in /etc/salt/minion: run bootstrap.sh",
        ),
        ({"nginx": {}, "_errors": ["a: wrong", "b: wrong"]}, "a: wrong\nb: wrong"),
    ],
)
def test_load_refuses_a_pillar_with_mistakes(pillar, message):
    with pytest.raises(CommandExecutionError) as raised:
        load.loaded(pillar, "nginx")
    assert str(raised.value) == message
