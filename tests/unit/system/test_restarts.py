"""Units that systemd starts again and again."""

import pytest

from saltern.system import restarts


def unit(name, restarts, state="active", at=9_900):
    parts = {"Id": name, "NRestarts": restarts, "ActiveState": state, "StateChangeTimestampMonotonic": at * 1_000_000}
    return "\n".join(f"{key}={value}" for key, value in parts.items())


@pytest.mark.parametrize(
    "units, found",
    [
        ([unit("nginx.service", 0), unit("supervisor.service", 2)], []),
        ([unit("nginx.service", 3)], ["nginx.service (3 times, active)"]),
        ([unit("nginx.service", 30, at=6_000)], []),
        ([unit("nginx.service", 30, "activating", at=6_000)], ["nginx.service (30 times, activating)"]),
        (["Id=saltern-drift.timer\nActiveState=active"], []),
        (
            [unit("b.service", 9, "failed", 1), unit("a.service", 3)],
            ["a.service (3 times, active)", "b.service (9 times, failed)"],
        ),
        ([""], []),
    ],
)
def test_a_unit_that_was_started_often_and_lately_ends_again_and_again(units, found):
    assert restarts.again_and_again("\n\n".join(units), 10_000) == found
