"""The data that is kept of apps and attachments that are gone, and the commands that remove it."""

import os
import pwd

import pytest
from salt.exceptions import CommandExecutionError

from saltern import kept, services
from saltern.apps import left, users
from saltern.host import Host
from saltern.services import postgres_closing, redis


@pytest.fixture
def orphaned(monkeypatch, tmp_path):
    """``orphans`` on a host with these databases and this directory of Redis."""
    monkeypatch.setattr(redis, "DATA", str(tmp_path))
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "notes"))
    monkeypatch.setattr(kept, "before", lambda: {"redis": str(tmp_path)})

    def orphans(*databases, owner="faq"):
        attached = {"faq": {"owner": owner}}
        monkeypatch.setattr(postgres_closing, "kept", lambda host, attached: list(databases))
        pillar = {kind: {service.plural: {}} for kind, service in services.formulas().items()}
        pillar |= {"postgres": {"databases": attached}, "redis": {"instances": attached}}
        return left.orphans(Host.of({}, pillar, {}))

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


def test_what_is_kept_is_listed_where_another_app_attaches_it_and_not_where_its_own_does(orphaned):
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


SHOP = pwd.struct_passwd(("shop", "x", 4_000_000, 4_000_000, "", "/srv/apps/shop", "/usr/sbin/nologin"))


@pytest.fixture
def noted(monkeypatch, tmp_path):
    """A function that notes which files are kept of the app shop, which is gone; and the directory of these."""
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "notes"))
    monkeypatch.setattr(left.pwd, "getpwnam", lambda name: pwd.struct_passwd((*SHOP[:5], "/nonexistent", SHOP[6])))
    (tmp_path / "apps/shop/home").mkdir(parents=True)

    def note(files):
        kept.note("app", "shop", "shop", uid=SHOP.pw_uid, paths=files)
        monkeypatch.setattr(users, "files", lambda uid, gid: files)

    return note, tmp_path


def test_files_that_are_kept_are_listed_with_the_command_that_removes_them(noted, monkeypatch):
    note, directory = noted
    home = directory / "apps/shop/home"
    (home / "photo.jpg").write_bytes(bytes(1_500_000))
    note([str(home)])
    found = {"shop": SHOP}
    monkeypatch.setattr(left.pwd, "getpwnam", found.__getitem__)
    # An app that is declared again gets its files back.
    assert left.homes() == {}
    found["shop"] = pwd.struct_passwd((*SHOP[:5], "/nonexistent", SHOP[6]))
    listed = left.homes()["files:shop"]
    assert (listed["app"], listed["size"], listed["paths"]) == ("shop", "1.5 MB", [str(home)])
    assert listed["remove"] == "salt-call app.erase shop"


def test_a_file_name_commands_no_terminal(noted, monkeypatch):
    note, directory = noted
    odd = directory / "\x1b]0;own\x07"
    odd.write_text("")
    note([str(odd)])
    listed = left.homes()["files:shop"]
    assert listed["paths"] == [f"{directory}/\\x1b]0;own\\x07"]


def test_many_files_of_a_directory_are_counted(noted, monkeypatch):
    note, directory = noted
    (directory / "many").mkdir()
    paths = [directory / f"many/upload of a customer {number}" for number in range(500)]
    for path in paths:
        path.write_text("")
    note([*map(str, paths)])
    monkeypatch.setattr(users, "files", lambda uid, gid: [str(directory / "photo"), *map(str, paths)])
    (directory / "photo").write_text("")
    listed = left.homes()["files:shop"]
    assert listed["paths"] == [f"{directory}/photo", f"{directory}/many/: 500 files and directories"]


# An id that no user has, and no earlier run of these tests, which may have left directories behind.
NOBODY = 5_000_000 + os.getpid()


@pytest.fixture
def erasing(monkeypatch, tmp_path):
    """``erase`` of an app by its name. Files of shop are kept; its user and group ids belong to nobody else."""
    directory = tmp_path / "apps/shop"
    (directory / "home").mkdir(parents=True)
    user = pwd.struct_passwd(("shop", "x", NOBODY, NOBODY, "", "/nonexistent", "/usr/sbin/nologin"))
    noted = {"app": "shop", "uid": NOBODY, "since": None}
    # Another test covers the search of all disks.
    monkeypatch.setattr(left.deletion, "mounts", lambda: {str(tmp_path): "ext4"})
    monkeypatch.setattr(users, "ROOT", str(tmp_path / "apps"))
    monkeypatch.setattr(left.pwd, "getpwnam", {"shop": user}.__getitem__)
    did = []
    monkeypatch.setattr(kept, "of", lambda kind, name: noted if name == "shop" else {})
    monkeypatch.setattr(kept, "forget", lambda *_: did.append("note"))
    host = Host.of({"user.delete": lambda name: did.append(f"userdel {name}") or True}, {}, {})
    return lambda app: left.erase(host, app), directory, did


def test_files_are_removed_for_good_and_those_of_others_stay_for_root_alone(erasing):
    erase, directory, did = erasing
    (directory / "home/shared/deep").mkdir(parents=True)
    (directory / "home/photo").write_text("")
    (directory / "home/shared/deep/by its group").write_text("")
    for path in (directory / "home", *directory.glob("home/**/*")):
        os.chown(path, NOBODY, NOBODY)
    (directory / "home/shared/deep/of another").write_text("")
    os.chown(directory / "home/shared/deep/by its group", 0, NOBODY)
    said = erase("shop")
    home = directory / "home"
    assert said == (
        f"shop: its files and its user are removed; what others have there stays, for root alone: {directory}/home"
    )
    names = ["shared", "shared/deep", "shared/deep/by its group", "shared/deep/of another"]
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == names
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (home, *home.rglob("*"))} == {(0, 0)}
    assert home.stat().st_mode & 0o777 == 0o700
    assert did == ["userdel shop", "note"]


def test_files_that_other_hosts_may_have_too_are_not_removed_from_here(erasing, monkeypatch):
    erase, directory, did = erasing
    (directory / "home/uploads").mkdir(parents=True)
    (directory / "home/uploads/photo").write_text("")
    for path in (directory / "home", *directory.glob("home/**/*")):
        os.chown(path, NOBODY, NOBODY)
    mounts = {str(directory / "home"): "ext4", str(directory / "home/uploads"): "nfs4"}
    monkeypatch.setattr(left.deletion, "mounts", lambda: mounts)
    with pytest.raises(CommandExecutionError, match=rf"^shop: other hosts may have files on {directory}/home/uploads"):
        erase("shop")
    assert (directory / "home/uploads/photo").exists()
    assert did == []


def test_no_files_are_removed_of_an_app_that_is_there(erasing):
    erase, _, _ = erasing
    with pytest.raises(CommandExecutionError, match=r"^faq: no files are kept of an app of this name that is gone"):
        erase("faq")
