"""Apps that are no longer declared, and what is removed of them.

The tests of whole hosts, tests/hosts, check that all of an app is removed.
"""

import os
import pwd

import pytest

from saltern import kept
from saltern.apps import removal, users
from saltern.host import Host
from saltern.system.sizes import size_of

SHOP = pwd.struct_passwd(("shop", "x", 4_000_000, 4_000_000, "", "/srv/apps/shop", "/usr/sbin/nologin"))


def test_what_an_operator_put_beside_the_releases_stays_for_root_alone(tmp_path):
    for name in ("releases/1/env", "builds/0123456789ab"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    (tmp_path / "release.log").write_text("{}\n")
    (tmp_path / "dump.sql").write_text("data")
    (tmp_path / "current.found").mkdir()
    removal.clear(str(tmp_path), None)
    assert [path.name for path in tmp_path.iterdir()] == ["dump.sql"]
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    (tmp_path / "dump.sql").unlink()
    removal.clear(str(tmp_path), None)
    assert not tmp_path.exists()
    removal.clear(str(tmp_path), None)


@pytest.fixture
def leaving(monkeypatch, tmp_path):
    """A function that removes an app's user with these files; it returns what was done and noted."""
    monkeypatch.setattr(users, "ROOT", str(tmp_path / "apps"))
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "notes"))
    (tmp_path / "apps/shop/home").mkdir(parents=True)

    def let_go(files):
        did = []
        salt = {
            "user.delete": lambda name: did.append(f"userdel {name}") or True,
            "cmd.run_all": lambda command, **_: did.append(" ".join(command)) or {"retcode": 0},
        }
        monkeypatch.setattr(users, "files", lambda uid, gid: files)
        removal.let_go(Host.of(salt, {}, {}), SHOP)
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


def test_directories_however_deep_are_removed_and_counted(tmp_path):
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
    removal.clear(str(directory), 0)
    assert not directory.exists()
