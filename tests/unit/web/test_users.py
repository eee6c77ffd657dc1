"""The users of sites: what nginx reads, and what changes when a password does."""

import ctypes
import grp
import os
import re

import pytest
from salt.exceptions import CommandExecutionError

from saltern.web import users

PASSWORDS = {"ada": "pä ss:wörd", "bob": "$y$j75$x"}


@pytest.fixture
def own_group(monkeypatch):
    """Files of this test's own group, whoever runs it."""
    monkeypatch.setattr(users, "GROUP", grp.getgrgid(os.getgid()).gr_name)
    if os.getuid():
        pytest.skip("files of root's own need root")


def crypted(password, line):
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return crypt(password.encode(), line.encode()).decode()


def test_libcrypt_takes_the_passwords_and_no_other():
    lines = dict(line.split(":", 1) for line in users.text(None, PASSWORDS).splitlines())
    assert lines.keys() == PASSWORDS.keys()
    for name, password in PASSWORDS.items():
        assert re.fullmatch(r"\$y\$j75\$[0-9a-f]{16}\$[./0-9A-Za-z]{43}", lines[name])
        assert crypted(password, lines[name]) == lines[name]
        assert crypted(f"{password} ", lines[name]) != lines[name]
        assert password not in lines[name]


def test_a_line_that_is_right_stays_and_any_other_gets_a_salt_of_its_own():
    first = users.text(None, PASSWORDS)
    assert users.text(first, PASSWORDS) == first
    assert users.text(None, PASSWORDS) != first
    ada, bob = first.splitlines()
    changed = users.text(first, PASSWORDS | {"bob": "another"}).splitlines()
    assert changed[0] == ada
    assert changed[1].split("$")[3] != bob.split("$")[3]
    assert users.text(first, {"ada": PASSWORDS["ada"]}) == f"{ada}\n"
    assert users.text("ada:*\nbob\n\nbob:$y$j75$\n:x\n", PASSWORDS).count("$y$j75$") == 2
    # A weaker hash of the right password, as somebody may have written it by hand.
    assert users.text("ada:{PLAIN}pw\n", {"ada": "pw"}).startswith("ada:$y$j75$")


def test_a_file_is_right_with_its_owner_its_mode_and_its_directory(tmp_path, own_group):
    root = str(tmp_path / "users")
    assert not users.is_right(root, "shop", PASSWORDS)
    users.write(root, "shop", PASSWORDS)
    assert users.is_right(root, "shop", PASSWORDS)
    assert not users.is_right(root, "shop", PASSWORDS | {"ada": "x"})
    assert not users.is_right(root, "shop", {"ada": PASSWORDS["ada"]})
    for where, mode in ((f"{root}/shop", 0o644), (root, 0o755)):
        before = os.stat(where).st_mode
        os.chmod(where, mode)
        assert not users.is_right(root, "shop", PASSWORDS)
        os.chmod(where, before & 0o7777)
    assert users.is_right(root, "shop", PASSWORDS)


def test_without_nginx_its_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(users, "GROUP", "nobody-has-this-group")
    with pytest.raises(CommandExecutionError, match="there is no group nobody-has-this-group; expected"):
        users.write(str(tmp_path / "users"), "shop", PASSWORDS)
    assert not users.is_right(str(tmp_path / "users"), "shop", PASSWORDS)


def pillar(**passwords):
    apps = {app: {"site": {"access": {"users": one}}} for app, one in passwords.items()}
    return {"app": apps | {"idle": {"site": {"access": {"users": {"x": "y"}}}}}, "nginx": {"sites": passwords}}


def test_the_state_tells_what_it_writes_and_removes_and_shows_no_password(site_users, dunders, tmp_path, own_group):
    root = str(tmp_path / "users")

    def ask(function, test, **passwords):
        dunders(site_users, pillar=pillar(**passwords), opts={"test": test})
        return getattr(site_users, function)(root)

    would, done = (ask("current", test, shop=PASSWORDS, faq={}) for test in (True, False))
    assert (would["result"], done["result"]) == (None, True)
    assert would["changes"] == done["changes"] == {f"{root}/shop": {"old": "another", "new": "written"}}
    assert ask("current", True, shop=PASSWORDS)["changes"] == ask("retired", True, shop=PASSWORDS)["changes"] == {}
    assert ask("current", True)["changes"] == {}
    would, done = (ask("retired", test, shop={}) for test in (True, False))
    assert (would["result"], done["result"]) == (None, True)
    assert would["changes"] == done["changes"] == {f"{root}/shop": {"old": "present", "new": None}}
    assert ask("retired", True)["changes"] == {}
    assert os.listdir(root) == []
