"""Apps that are no longer declared, and the data that is kept of them.

The tests of whole hosts, tests/hosts, check that all of an app is removed.
"""

import ctypes
import os
import pwd
import select
import subprocess
import sys

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.services import postgres_closing, redis
from saltern.system.sizes import size_of


@pytest.fixture
def orphaned(app, kept, dunders, monkeypatch, tmp_path):
    """``app.orphans`` on a host with these databases and this directory of Redis."""
    monkeypatch.setattr(redis, "DATA", str(tmp_path))
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "notes"))
    monkeypatch.setattr(kept, "BEFORE", {"redis": str(tmp_path)})

    def orphans(*databases, owner="faq"):
        attached = {"faq": {"owner": owner}}
        salt = {
            "kept.list": kept.list_,
        }
        monkeypatch.setattr(postgres_closing, "kept", lambda host, attached: list(databases))
        pillar = {kind: {service.plural: {}} for kind, service in services.formulas().items()}
        pillar |= {"postgres": {"databases": attached}, "redis": {"instances": attached}}
        dunders(app, salt=salt, pillar=pillar, opts={})
        return app.orphans()

    return orphans, tmp_path


AS_POSTGRES = "setsid --wait runuser -u postgres --"
DATABASE = {
    "name": "stock",
    "owner": "shop",
    "app": "shop",
    "since": "2026-01-02T03:04:05+00:00",
    "size": 7_512_345,
    "owned": ["stock"],
}


def test_where_nothing_is_kept_it_says_so(orphaned):
    orphans, directory = orphaned
    (directory / "faq.rdb").write_text("data of an instance that is attached, or nobody's")
    nothing = {"comment": "No data of an app or an attachment that is gone is kept on this host", "kept": {}}
    assert orphans() == nothing
    # The next converge closes it; until then it does not count as kept.
    assert orphans(DATABASE | {"since": None}) == nothing


def test_what_is_kept_is_listed_where_another_app_attaches_it_and_not_where_its_own_does(orphaned, kept):
    orphans, directory = orphaned
    (directory / "faq.rdb").write_text("data")
    kept.note("redis", "faq", "faq")
    database = DATABASE | {"name": "faq", "owner": "faq", "app": "faq", "owned": ["faq"]}
    assert orphans(database)["kept"] == {}
    assert orphans(database, owner="tickets")["kept"].keys() == {"postgres:faq", "redis:faq"}


def test_a_database_is_listed_with_the_command_that_removes_it(orphaned):
    orphans, _ = orphaned
    assert orphans(DATABASE)["kept"] == {
        "postgres:stock": {
            "app": "shop",
            "size": "7.5 MB",
            "since": DATABASE["since"],
            "remove": f"{AS_POSTGRES} dropdb stock && {AS_POSTGRES} dropuser shop",
        }
    }


@pytest.mark.parametrize("other", [{"owned": ["other", "stock"]}, {"owner": "alice"}], ids=["of two", "of a person"])
def test_a_role_stays_if_it_is_needed_or_is_not_the_apps(orphaned, other):
    orphans, _ = orphaned
    assert (
        orphans(DATABASE | other)["kept"]["postgres:stock"]["remove"]
        == "setsid --wait runuser -u postgres -- dropdb stock"
    )


def test_an_instance_is_listed_with_all_that_it_left(orphaned):
    orphans, directory = orphaned
    (directory / "notes/redis").mkdir(parents=True)
    for name, place in (("jobs", "notes/redis"), ("faq", ".")):
        (directory / place / f"{name}.kept").write_text('{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}')
        (directory / f"{name}.rdb").write_bytes(bytes(1_500_000))
        (directory / f"{name}.appendonlydir").mkdir()
        (directory / f"{name}.appendonlydir/link").symlink_to("/nowhere")
        (directory / f"{name}.appendonlydir/1.aof").write_bytes(bytes(1_000_000))
    (directory / "jobs-by-hand.rdb").write_text("not ours")
    found = orphans(owner="shop")["kept"]
    assert found.keys() == {"redis:jobs"}
    assert found["redis:jobs"] == {
        "app": "shop",
        "size": "2.5 MB",
        "since": "2026-01-02T03:04:05+00:00",
        "remove": f"rm -r {directory}/jobs.appendonlydir {directory}/jobs.rdb {directory}/notes/redis/jobs.kept",
    }


def test_what_an_operator_put_beside_the_releases_stays_for_root_alone(app, tmp_path):
    for name in ("releases/1/env", "builds/0123456789ab"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    (tmp_path / "release.log").write_text("{}\n")
    (tmp_path / "dump.sql").write_text("data")
    (tmp_path / "current.found").mkdir()
    app._clear(str(tmp_path), None)
    assert [path.name for path in tmp_path.iterdir()] == ["dump.sql"]
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    (tmp_path / "dump.sql").unlink()
    app._clear(str(tmp_path), None)
    assert not tmp_path.exists()
    app._clear(str(tmp_path), None)


SHOP = pwd.struct_passwd(("shop", "x", 4_000_000, 4_000_000, "", "/srv/apps/shop", "/usr/sbin/nologin"))


@pytest.fixture
def leaving(app, kept, dunders, monkeypatch, tmp_path):
    """A function that removes an app's user with these files; it returns what was done and noted."""
    monkeypatch.setattr(app, "ROOT", str(tmp_path / "apps"))
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "notes"))
    (tmp_path / "apps/shop/home").mkdir(parents=True)

    def let_go(files):
        did = []
        salt = {f"kept.{name}": getattr(kept, name) for name in ("note", "forget", "of")}
        salt["kept.list"] = kept.list_
        salt["user.delete"] = lambda name: did.append(f"userdel {name}") or True
        salt["cmd.run_all"] = lambda command, **_: did.append(" ".join(command)) or {"retcode": 0}
        dunders(app, salt=salt)
        monkeypatch.setattr(app, "_files", lambda uid, gid: files)
        app._let_go(SHOP)
        return did, kept.of("app", "shop")

    return let_go, tmp_path


def test_a_user_without_files_goes(leaving):
    let_go, directory = leaving
    assert let_go([]) == (["userdel shop"], {})
    assert not (directory / "apps/shop").exists()


@pytest.mark.parametrize("files", [["/data/uploads"], None], ids=["files", "disks too large to look at"])
def test_a_user_who_may_have_files_stays_and_nobody_is_given_its_id(files, leaving):
    let_go, _ = leaving
    did, note = let_go(files)
    assert did == ["usermod --lock --home /nonexistent shop"]
    assert (note["app"], note["uid"], note["paths"]) == ("shop", 4_000_000, files)


def test_files_that_are_kept_are_listed_with_the_command_that_removes_them(leaving, app, monkeypatch):
    let_go, directory = leaving
    home = directory / "apps/shop/home"
    (home / "photo.jpg").write_bytes(bytes(1_500_000))
    let_go([str(home)])
    found = {"shop": SHOP}
    monkeypatch.setattr(app.pwd, "getpwnam", found.__getitem__)
    # An app that is declared again gets its files back.
    assert app._homes() == {}
    found["shop"] = pwd.struct_passwd((*SHOP[:5], "/nonexistent", SHOP[6]))
    listed = app._homes()["files:shop"]
    assert (listed["app"], listed["size"], listed["paths"]) == ("shop", "1.5 MB", [str(home)])
    assert listed["remove"] == "salt-call app.erase shop"


def test_a_file_name_commands_no_terminal(leaving, app, monkeypatch):
    let_go, directory = leaving
    odd = directory / "\x1b]0;own\x07"
    odd.write_text("")
    let_go([str(odd)])
    monkeypatch.setattr(app.pwd, "getpwnam", lambda name: pwd.struct_passwd((*SHOP[:5], "/nonexistent", SHOP[6])))
    listed = app._homes()["files:shop"]
    assert listed["paths"] == [f"{directory}/\\x1b]0;own\\x07"]


def test_many_files_of_a_directory_are_counted(leaving, app, monkeypatch):
    let_go, directory = leaving
    (directory / "many").mkdir()
    paths = [directory / f"many/upload of a customer {number}" for number in range(500)]
    for path in paths:
        path.write_text("")
    let_go([*map(str, paths)])
    monkeypatch.setattr(app.pwd, "getpwnam", lambda name: pwd.struct_passwd((*SHOP[:5], "/nonexistent", SHOP[6])))
    monkeypatch.setattr(app, "_files", lambda uid, gid: [str(directory / "photo"), *map(str, paths)])
    (directory / "photo").write_text("")
    listed = app._homes()["files:shop"]
    assert listed["paths"] == [f"{directory}/photo", f"{directory}/many/: 500 files and directories"]


# An id that no user has, and no earlier run of these tests, which may have left directories behind.
NOBODY = 5_000_000 + os.getpid()


def test_all_disks_are_looked_at_for_a_users_files(app, tmp_path):
    # And an id that no other test uses.
    owner = NOBODY + 10_000_000
    (tmp_path / "of nobody").mkdir()
    (tmp_path / "of nobody/inside").write_text("")
    for path in (tmp_path / "of nobody/inside", tmp_path / "of nobody"):
        os.chown(path, owner, owner)
    # A file with the app's group counts too: the next app with the group's id could read it.
    (tmp_path / "of its group").write_text("")
    os.chown(tmp_path / "of its group", 0, owner)
    assert app._files(owner, owner) == [str(tmp_path / "of its group"), str(tmp_path / "of nobody")]


def test_a_user_that_cannot_be_removed_is_told(app, dunders):
    dunders(app, salt={"user.delete": lambda name: False})
    with pytest.raises(CommandExecutionError, match=r"^shop: its user cannot be removed; see what it still runs"):
        app._delete(SHOP)


def test_a_file_of_another_user_in_a_directory_of_an_apps_holds_up_nothing(app, monkeypatch, tmp_path):
    uid = NOBODY
    for name in ("mine", "shared"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, uid, uid)
    (tmp_path / "shared/of another").write_text("")
    monkeypatch.setattr(app, "PASSING", (str(tmp_path), str(tmp_path / "not there")))
    app._sweep(uid)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["of another", "shared"]


def test_memory_queues_and_semaphores_of_an_app_go_with_it(app, monkeypatch):
    monkeypatch.setattr(app, "PASSING", ())
    uid, libc = NOBODY, ctypes.CDLL(None)

    child = os.fork()
    if not child:
        os.setuid(uid)
        # Without a key, and open for all to read and write.
        for make, given in ((libc.shmget, (0, 4096)), (libc.semget, (0, 1)), (libc.msgget, (0,))):
            make(*given, 0o666)
        os._exit(0)
    os.waitpid(child, 0)
    assert [len(app._shared(table, uid)) for table in ("shm", "sem", "msg")] == [1, 1, 1]
    app._sweep(uid)
    assert [len(app._shared(table, uid)) for table in ("shm", "sem", "msg")] == [0, 0, 0]


def test_directories_however_deep_are_removed_and_counted(app, tmp_path):
    directory = tmp_path / "apps/shop"
    (directory / "tmp").mkdir(parents=True)
    here = os.open(directory / "tmp", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert size_of(str(directory)) > 0
    app._clear(str(directory), 0)
    assert not directory.exists()


@pytest.fixture
def erasing(leaving, app, dunders, monkeypatch, tmp_path):
    """``app.erase`` of shop, whose files are kept; its user and group ids belong to nobody else."""
    let_go, directory = leaving
    user = pwd.struct_passwd(("shop", "x", NOBODY, NOBODY, "", "/nonexistent", "/usr/sbin/nologin"))
    let_go([str(directory / "apps/shop/home")])
    noted = {"app": "shop", "uid": NOBODY, "since": None}
    monkeypatch.undo()
    # Another test covers the search of all disks.
    monkeypatch.setattr(app.deletion, "mounts", lambda: {str(directory): "ext4"})
    monkeypatch.setattr(app, "ROOT", str(directory / "apps"))
    monkeypatch.setattr(app.pwd, "getpwnam", {"shop": user}.__getitem__)
    did = []
    salt = {"kept.of": lambda kind, name: noted if name == "shop" else {}, "kept.forget": lambda *_: did.append("note")}
    salt["user.delete"] = lambda name: did.append(f"userdel {name}") or True
    dunders(app, salt=salt)
    return directory / "apps/shop", did


def test_files_are_removed_for_good_and_those_of_others_stay_for_root_alone(erasing, app):
    directory, did = erasing
    (directory / "home/shared/deep").mkdir(parents=True)
    (directory / "home/photo").write_text("")
    (directory / "home/shared/deep/by its group").write_text("")
    for path in (directory / "home", *directory.glob("home/**/*")):
        os.chown(path, NOBODY, NOBODY)
    (directory / "home/shared/deep/of another").write_text("")
    os.chown(directory / "home/shared/deep/by its group", 0, NOBODY)
    said = app.erase("shop")
    home = directory / "home"
    assert said == (
        f"shop: its files and its user are removed; what others have there stays, for root alone: {directory}/home"
    )
    names = ["shared", "shared/deep", "shared/deep/by its group", "shared/deep/of another"]
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == names
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (home, *home.rglob("*"))} == {(0, 0)}
    assert home.stat().st_mode & 0o777 == 0o700
    assert did == ["userdel shop", "note"]


def test_files_that_other_hosts_may_have_too_are_not_removed_from_here(erasing, app, monkeypatch):
    directory, did = erasing
    (directory / "home/uploads").mkdir(parents=True)
    (directory / "home/uploads/photo").write_text("")
    for path in (directory / "home", *directory.glob("home/**/*")):
        os.chown(path, NOBODY, NOBODY)
    mounts = {str(directory / "home"): "ext4", str(directory / "home/uploads"): "nfs4"}
    monkeypatch.setattr(app.deletion, "mounts", lambda: mounts)
    with pytest.raises(CommandExecutionError, match=rf"^shop: other hosts may have files on {directory}/home/uploads"):
        app.erase("shop")
    assert (directory / "home/uploads/photo").exists()
    assert did == []


def test_no_files_are_removed_of_an_app_that_is_there(erasing, app):
    with pytest.raises(CommandExecutionError, match=r"^faq: no files are kept of an app of this name that is gone"):
        app.erase("faq")


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


def test_what_forks_without_end_is_ended(app, monkeypatch):
    monkeypatch.setattr(app, "GRACE", 2)
    uid = NOBODY + 20_000_000
    with subprocess.Popen([sys.executable, "-c", FORKS.format(uid)], stdout=subprocess.PIPE) as forking:
        assert forking.stdout.read(5) == b"begun"
        app._end(uid)
        # Every process of the chain holds this pipe, so the pipe ends when none is left.
        assert select.select([forking.stdout], [], [], 10)[0]
        assert forking.stdout.read() == b""
