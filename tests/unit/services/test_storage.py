"""Storage: whose a directory is, who passes its gate, and when it is closed."""

import os
import pwd
import stat
from types import SimpleNamespace

import pytest
from salt.exceptions import CommandExecutionError

from saltern import kept, services
from saltern.attachments import config
from saltern.attachments.users import is_of
from saltern.host import Host
from saltern.services import storage
from saltern.services.steps import Run

STORAGE = services.formulas()["storage"]
NEW = {"media": {"old": None, "new": "open to shop"}}
USERS = {"shop": 4711, "faq": 4712, "www-data": 33}


@pytest.fixture
def on_a_host(tmp_path, monkeypatch):
    """A function that returns a run on a host whose app shop attaches the storage media, below a test's directory."""
    root = tmp_path / "storage"
    root.mkdir()
    monkeypatch.setattr(storage, "ROOT", str(root))
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "kept"))
    users = dict(USERS)

    def known(name):
        if name not in users:
            raise KeyError(name)
        return SimpleNamespace(pw_name=name, pw_uid=users[name], pw_gid=users[name])

    monkeypatch.setattr(pwd, "getpwnam", known)

    def of(dry=False, owner="shop", by=(), gone=(), **directory):
        monkeypatch.setattr(storage, "users", lambda host, service, path, staying: [*by])
        monkeypatch.setattr(storage.removal, "gone", lambda apps: [*gone])
        directories = {"media": {"owner": owner} | directory} if owner else {}
        pillar = {"storage": {"directories": directories}, "app": {}, "hosts": {"one": {"roles": [], "address": ""}}}
        return Run(Host("one", pillar, "", dry, lambda *_: None), [], lambda name: False)

    of.root, of.users = root, users
    return of


def done(run, step, name="media"):
    """Run a step as the state does; return its changes."""
    todo = STORAGE.steps()[step](run, name)
    if todo.changes and not run.host.is_dry:
        todo.act()
    return dict(todo.changes)


def rights(path):
    found = os.lstat(path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def has_list(path):
    return storage.ACL in os.listxattr(path)


def test_a_directory_is_its_apps_behind_a_gate_of_roots(on_a_host):
    assert done(on_a_host(dry=True), "directory") == NEW
    assert list(on_a_host.root.iterdir()) == []
    assert done(on_a_host(), "directory") == NEW
    assert done(on_a_host(), "directory") == {}
    gate = on_a_host.root / "media"
    assert rights(gate) == (0o710, 0, 4711)
    assert rights(gate / "files") == (0o755, 4711, 4711)
    assert rights(gate / "owner") == (0o600, 0, 0)
    assert STORAGE.is_ready(on_a_host().host, "media", str)


def test_in_a_dry_run_the_apps_user_need_not_be_there_yet(on_a_host):
    on_a_host.users.pop("shop")
    assert done(on_a_host(dry=True), "directory") == NEW
    with pytest.raises(CommandExecutionError, match="shop: has no user on this host"):
        done(on_a_host(), "directory")


def test_nginx_passes_the_gate_while_it_serves_the_files(on_a_host):
    assert done(on_a_host(served=True), "directory") == {"media": {"old": None, "new": "open to shop and nginx"}}
    assert done(on_a_host(served=True), "directory") == {}
    gate = on_a_host.root / "media"
    assert (rights(gate), has_list(gate)) == ((0o710, 0, 4711), True)
    assert done(on_a_host(), "directory") == {"media": {"old": "other rights", "new": "open to shop"}}
    assert (rights(gate), has_list(gate)) == ((0o710, 0, 4711), False)


def test_what_nobody_attaches_is_closed_kept_and_given_back(on_a_host):
    done(on_a_host(served=True), "directory")
    gate = on_a_host.root / "media"
    (gate / "files/photo").write_text("photo")
    changes = {"media": {"old": "open", "new": "closed"}}
    assert done(on_a_host(dry=True, owner=None), "retired") == changes
    assert has_list(gate)
    assert done(on_a_host(owner=None), "retired") == changes
    assert (rights(gate), has_list(gate)) == ((0o700, 0, 0), False)
    assert done(on_a_host(owner=None), "retired") == {}
    found = STORAGE.kept(on_a_host(owner=None).host)["media"]
    assert (found["app"], found["remove"]) == ("shop", f"rm -r --one-file-system {gate} {kept.ROOT}/storage/media.kept")
    assert done(on_a_host(), "directory") == {"media": {"old": "kept", "new": "open to shop"}}
    assert done(on_a_host(), "directory") == {}
    assert STORAGE.kept(on_a_host().host) == {}
    assert (gate / "files/photo").read_text() == "photo"


def test_what_a_release_has_in_its_config_stays_open(on_a_host):
    done(on_a_host(), "directory")
    todo = STORAGE.steps()["retired"](on_a_host(owner=None, by=["shop v3"]), "storage")
    assert (todo.changes, todo.comment) == ({}, "media stays open for shop v3")


def test_the_removal_of_an_app_closes_what_it_had(on_a_host):
    done(on_a_host(), "directory")
    assert done(on_a_host(owner=None, gone=["shop"]), "retired") == {}
    STORAGE.disown("faq")
    assert rights(on_a_host.root / "media")[0] == 0o710
    STORAGE.disown("shop")
    assert rights(on_a_host.root / "media") == (0o700, 0, 0)
    assert kept.of("storage", "media")["app"] == "shop"


@pytest.mark.parametrize("is_closed", [False, True])
def test_another_app_is_refused(on_a_host, is_closed):
    done(on_a_host(), "directory")
    if is_closed:
        done(on_a_host(owner=None), "retired")
    with pytest.raises(CommandExecutionError, match=r"app\.faq\.attach: the storage media holds the data of shop"):
        done(on_a_host(owner="faq"), "directory")
    # It is the first app's until an operator hands it over.
    (on_a_host.root / "media/owner").write_text("faq\n")
    done(on_a_host(owner="faq"), "directory")
    assert rights(on_a_host.root / "media/files") == (0o755, 4712, 4712)


def test_a_user_that_has_another_id_by_now_gets_its_files_and_no_others(on_a_host, tmp_path):
    done(on_a_host(), "directory")
    inside, outside = on_a_host.root / "media/files", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("")
    deep = inside / "a/b"
    deep.mkdir(parents=True)
    for name in ("photo", "a/b/photo"):
        (inside / name).write_text("")
    (inside / "link").symlink_to(outside)
    (deep / "link").symlink_to(outside / "file")
    os.link(outside / "file", deep / "another-name")
    own = (inside / "photo", inside / "a", deep, deep / "photo", inside / "link", deep / "link")
    for path in own:
        os.lchown(path, 4711, 4711)
    (inside / "roots").write_text("")
    on_a_host.users["shop"] = 4713
    assert done(on_a_host(), "directory") == {"media": {"old": "other rights", "new": "open to shop"}}
    assert {rights(path)[1:] for path in (*own, inside)} == {(4713, 4713)}
    others = (inside / "roots", outside, outside / "file", deep / "another-name")
    assert {rights(path)[1:] for path in others} == {(0, 0)}
    assert rights(on_a_host.root / "media") == (0o710, 0, 4713)


def test_what_an_operator_has_put_there_before_is_the_apps(on_a_host, tmp_path):
    inside = on_a_host.root / "media/files"
    inside.mkdir(parents=True)
    (inside / "photo").write_text("")
    (tmp_path / "shadow").write_text("")
    os.link(tmp_path / "shadow", inside / "another-name")
    assert done(on_a_host(), "directory") == {"media": {"old": "other rights", "new": "open to shop"}}
    assert (rights(inside / "photo")[1], rights(tmp_path / "shadow")[1]) == (4711, 0)
    assert done(on_a_host(), "directory") == {}


@pytest.mark.parametrize("name", ["media", "media/files"])
def test_a_link_in_its_place_is_refused(on_a_host, tmp_path, name):
    path = on_a_host.root / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path)
    with pytest.raises(CommandExecutionError, match=f"{name}: is no directory; expected one"):
        done(on_a_host(), "directory")


def test_a_disk_without_lists_is_told(on_a_host, monkeypatch):
    def refuse(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(CommandExecutionError, match="media: its disk has no access control lists"):
        done(on_a_host(served=True), "directory")


@pytest.mark.parametrize("quota, is_told", [(None, False), ("1g", False), ("1k", True)])
def test_more_than_the_quota_is_told(on_a_host, quota, is_told):
    done(on_a_host(), "directory")
    (on_a_host.root / "media/files/photo").write_bytes(bytes(3_000_000))
    host = on_a_host(**({"quota": quota} if quota else {})).host
    assert STORAGE.full(host) == (["media (3.0 MB of 0.0 MB)"] if is_told else [])


def test_an_app_gets_the_path_and_a_release_that_has_it_is_found():
    assert STORAGE.url({"storage": "media"}, "shop", "") == "/srv/storage/media/files"
    assert is_of("/srv/storage/media/files", STORAGE, "media")
    for other in ("/srv/storage/media", "https://x/srv/storage/media/files", "/srv/storage/other/files", ""):
        assert not is_of(other, STORAGE, "media")


def test_what_a_host_has_without_the_role_is_known(on_a_host, monkeypatch):
    monkeypatch.setattr(storage.Storage, "guarded", (str(on_a_host.root),))
    host = on_a_host().host
    assert config.left(host) == ["storage"]
    host.pillar["hosts"]["one"]["roles"].append("storage")
    assert config.left(host) == []
    monkeypatch.setattr(storage.Storage, "guarded", (f"{on_a_host.root}/none",))
    host.pillar["hosts"]["one"]["roles"].remove("storage")
    assert config.left(host) == []
