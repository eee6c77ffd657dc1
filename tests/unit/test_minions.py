"""Which minions' keys a master accepts."""

import re

import pytest
from salt.exceptions import CommandExecutionError
from salt.utils.crypt import pem_finger

OWN = ":".join(["ab"] * 32)
OTHER = ":".join(["cd"] * 32)


@pytest.mark.parametrize(
    "found, answer",
    [({"minions_pre": OWN}, ""), ({"minions": OWN}, "app1 is accepted already")],
)
def test_the_key_that_was_told_is_accepted(minions, found, answer):
    assert minions.judged("app1", OWN, found) == answer


@pytest.mark.parametrize(
    "found, reason",
    [
        ({}, "app1: no key has come from it; expected a host that was bootstrapped with --minion-of"),
        ({"minions_pre": OTHER}, f"app1: the key that came under this id has another fingerprint .{OTHER}.; expected"),
        ({"minions": OTHER}, "app1: another key is accepted"),
        ({"minions": OTHER, "minions_denied": OWN}, "app1: another key is accepted"),
    ],
)
def test_a_key_that_was_not_told_is_refused(minions, found, reason):
    with pytest.raises(CommandExecutionError, match=reason):
        minions.judged("app1", OWN, found)


def test_a_fingerprint_is_computed_from_the_key_file(minions, tmp_path):
    key = "-----BEGIN PUBLIC KEY-----\nMIIB\nIDAQAB\n-----END PUBLIC KEY-----"
    path = tmp_path / "minion.pub"
    path.write_text(f"{key}\n")
    assert minions.fingerprint_of(key) == minions.fingerprint_of(f"{key}\n") == pem_finger(str(path))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("app1: [", "hosts.yaml: .*; expected rows of hosts"),
        ("", "hosts.yaml: no rows of hosts; expected one for app1"),
        ("app2: {}", "app1: is not in pillar/hosts.yaml"),
        (None, "hosts.yaml: .*No such file"),
    ],
)
def test_a_host_of_no_inventory_is_refused_in_words(minions, dunders, tmp_path, text, reason):
    if text is not None:
        (tmp_path / "hosts.yaml").write_text(text)
    dunders(minions, opts={"pillar_roots": {"base": [str(tmp_path)]}})
    answer = minions.accept("app1", OWN)
    assert answer["data"]["retcode"] == 1
    assert re.search(reason, answer["data"]["refused"])
