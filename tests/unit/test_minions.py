"""Whose key a master accepts."""

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
def test_another_is_not(minions, found, reason):
    with pytest.raises(CommandExecutionError, match=reason):
        minions.judged("app1", OWN, found)


def test_a_fingerprint_is_that_of_the_key_s_file(minions, tmp_path):
    key = "-----BEGIN PUBLIC KEY-----\nMIIB\nIDAQAB\n-----END PUBLIC KEY-----"
    path = tmp_path / "minion.pub"
    path.write_text(f"{key}\n")
    assert minions.fingerprint_of(key) == minions.fingerprint_of(f"{key}\n") == pem_finger(str(path))
