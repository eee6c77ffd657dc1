"""Who comes first, and who may be touched at once."""

import pytest

from saltern.fleet import batches


@pytest.mark.parametrize(
    "count, size, expected",
    [(1, 1, [1]), (1, 5, [1]), (2, 1, [1, 1]), (2, 2, [1, 1]), (4, 2, [2, 2]), (5, 2, [1, 2, 2]), (3, 9, [1, 2])],
)
def test_a_batch_never_is_all_of_them_and_the_smallest_is_first(count, size, expected):
    names = [f"app{n}" for n in range(count)]
    found = batches.batches(names, size, len(names))
    assert [len(batch) for batch in found] == expected
    assert [name for batch in found for name in batch] == names


def test_what_others_attach_comes_first():
    roles = {"b": ["proxy"], "c": ["app", "proxy"], "a": ["cache"], "d": ["database", "cache"], "e": [], "f": ["app"]}
    assert batches.ordered(roles) == [["d"], ["a"], ["c"], ["f"], ["b"], ["e"]]


def test_the_last_of_several_app_hosts_to_be_rebooted_is_a_batch_of_its_own():
    assert batches.batches(["app2"], 3, 3) == [["app2"]]
    assert batches.batches(["app1", "app2"], 3, 2) == [["app1"], ["app2"]]


@pytest.mark.parametrize(
    "drained, names, size, expected",
    [
        ([], ["a", "b", "c"], 2, ([["a"], ["b", "c"]], ["p"])),
        (["a"], ["a", "b", "c"], 2, ([["a"], ["b"], ["c"]], ["p"])),
        (["a"], ["b"], 2, ([["b"]], ["p"])),
        (["a", "b"], ["a", "b", "c"], 3, ([["a"], ["b"], ["c"]], [])),
    ],
)
def test_hosts_that_the_inventory_drains_serve_nothing(drained, names, size, expected):
    hosts = {name: {"drain": name in drained} for name in "abc"}
    assert batches.rolled(names, ["a", "b", "c"], ["p"], hosts, size) == expected
