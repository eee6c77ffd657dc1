"""The user of an app: its files are found, and what runs of it ends."""

import ctypes
import os
import pwd
import select
import subprocess
import sys

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.apps import users
from saltern.host import Host

SHOP = pwd.struct_passwd(("shop", "x", 4_000_000, 4_000_000, "", "/srv/apps/shop", "/usr/sbin/nologin"))


# An id that no user has, and no earlier run of these tests, which may have left directories behind.
NOBODY = 5_000_000 + os.getpid()


def test_all_disks_are_looked_at_for_a_users_files_but_not_what_a_service_guards(tmp_path, monkeypatch):
    # And an id that no other test uses.
    owner = NOBODY + 10_000_000
    (tmp_path / "of nobody").mkdir()
    (tmp_path / "of nobody/inside").write_text("")
    for path in (tmp_path / "of nobody/inside", tmp_path / "of nobody"):
        os.chown(path, owner, owner)
    # A file with the app's group counts too: the next app with the group's id could read it.
    (tmp_path / "of its group").write_text("")
    os.chown(tmp_path / "of its group", 0, owner)
    guarded = tmp_path / "storage"
    (guarded / "media").mkdir(parents=True)
    for path in (guarded, guarded / "media"):
        os.chown(path, owner, owner)
    monkeypatch.setattr(type(services.formulas()["storage"]), "guarded", (str(guarded),))
    assert users.files(owner, owner) == [str(tmp_path / "of its group"), str(tmp_path / "of nobody")]


def test_a_user_that_cannot_be_removed_is_told():
    host = Host.of({"user.delete": lambda name: False}, {}, {})
    with pytest.raises(CommandExecutionError, match=r"^shop: its user cannot be removed; see what it still runs"):
        users.delete(host, SHOP)


def test_a_file_of_another_user_in_a_directory_of_an_apps_holds_up_nothing(monkeypatch, tmp_path):
    uid = NOBODY
    for name in ("mine", "shared"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, uid, uid)
    (tmp_path / "shared/of another").write_text("")
    monkeypatch.setattr(users, "PASSING", (str(tmp_path), str(tmp_path / "not there")))
    users.sweep(uid)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["of another", "shared"]


def test_memory_queues_and_semaphores_of_an_app_go_with_it(monkeypatch):
    monkeypatch.setattr(users, "PASSING", ())
    uid, libc = NOBODY, ctypes.CDLL(None)

    child = os.fork()
    if not child:
        os.setuid(uid)
        # Without a key, and open for all to read and write.
        for make, given in ((libc.shmget, (0, 4096)), (libc.semget, (0, 1)), (libc.msgget, (0,))):
            make(*given, 0o666)
        os._exit(0)
    os.waitpid(child, 0)
    assert [len(users.shared(table, uid)) for table in ("shm", "sem", "msg")] == [1, 1, 1]
    users.sweep(uid)
    assert [len(users.shared(table, uid)) for table in ("shm", "sem", "msg")] == [0, 0, 0]


FORKS = """
import os, signal, time
os.setresuid({0}, {0}, {0})
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"begun")
# Bounded, because this machine would stay busy where the test fails.
until = time.monotonic() + 60
while time.monotonic() < until:
    # The parent ends and the child goes on, as another process each time.
    if os.fork():
        os._exit(0)
"""


def test_what_forks_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(users, "GRACE", 2)
    uid = NOBODY + 20_000_000
    with subprocess.Popen([sys.executable, "-c", FORKS.format(uid)], stdout=subprocess.PIPE) as forking:
        assert forking.stdout.read(5) == b"begun"
        users.end(uid)
        # Every process of the chain holds this pipe, so the pipe ends when none is left.
        assert select.select([forking.stdout], [], [], 10)[0]
        assert forking.stdout.read() == b""
