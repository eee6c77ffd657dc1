"""The user of an app belongs to that app, or was kept for it."""

import pwd

import pytest

from saltern import kept

HOME = "/srv/apps/shop"


@pytest.mark.parametrize(
    ("user", "note", "expected"),
    [
        (None, {}, True),
        ((998, HOME), {}, True),
        ((998, "/home/shop"), {}, False),
        ((998, "/nonexistent"), {"uid": 998}, True),
        ((1000, "/nonexistent"), {"uid": 998}, False),
        ((998, "/nonexistent"), {}, False),
    ],
    ids=["nobody", "the app", "a person", "kept for the app", "another one since", "a system user"],
)
def test_a_name_is_free_for(user, note, expected, app_user, monkeypatch):
    monkeypatch.setattr(kept, "of", lambda kind, name: note if (kind, name) == ("app", "shop") else {})
    users = {"shop": pwd.struct_passwd(("shop", "x", user[0], user[0], "", user[1], "/bin/sh"))} if user else {}
    monkeypatch.setattr(app_user.pwd, "getpwnam", users.__getitem__)
    assert app_user.free("shop", HOME)["result"] is expected
