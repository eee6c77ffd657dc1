"""Apps that are no longer declared, and the data that is kept of them.

That all of an app goes is asked of whole hosts, in the converge tests.
"""

import pytest
from salt.exceptions import CommandExecutionError


@pytest.fixture
def kept(app, dunders, monkeypatch, tmp_path):
    """``app.orphans`` where PostgreSQL has these databases of ours; Redis's directory is given too."""
    monkeypatch.setattr(app, "REDIS", str(tmp_path))
    asked = []

    def orphans(*databases):
        salt = {
            "settings.load": lambda formula: {"databases": {"faq": {}}, "instances": {"faq": {}}},
            "postgres_attachment.kept": lambda attached: asked.append(sorted(attached)) or list(databases),
        }
        dunders(app, salt=salt)
        answer = app.orphans()
        assert asked.pop() == ["faq"]
        return answer

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


def test_where_nothing_is_kept_it_says_so(kept):
    orphans, directory = kept
    (directory / "faq.rdb").write_text("data of an instance that is attached, or nobody's")
    nothing = {"comment": "No data of an app or an attachment that is gone is kept on this host", "kept": {}}
    assert orphans() == nothing
    # It is closed by the next converge, and is not kept until then.
    assert orphans(DATABASE | {"since": None}) == nothing


def test_a_database_is_listed_with_the_command_that_removes_it(kept):
    orphans, _ = kept
    assert orphans(DATABASE)["kept"] == {
        "postgres:stock": {
            "app": "shop",
            "size": "7.5 MB",
            "since": DATABASE["since"],
            "remove": f"{AS_POSTGRES} dropdb stock && {AS_POSTGRES} dropuser shop",
        }
    }


@pytest.mark.parametrize("other", [{"owned": ["other", "stock"]}, {"owner": "alice"}], ids=["of two", "of a person"])
def test_a_role_stays_that_is_needed_or_not_the_apps(kept, other):
    orphans, _ = kept
    assert (
        orphans(DATABASE | other)["kept"]["postgres:stock"]["remove"]
        == "setsid --wait runuser -u postgres -- dropdb stock"
    )


def test_an_instance_is_listed_with_all_that_it_left(kept):
    orphans, directory = kept
    for name in ("jobs", "faq"):
        (directory / f"{name}.kept").write_text('{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}')
        (directory / f"{name}.rdb").write_bytes(bytes(1_500_000))
        (directory / f"{name}.appendonlydir").mkdir()
        (directory / f"{name}.appendonlydir/1.aof").write_bytes(bytes(1_000_000))
    (directory / "jobs-by-hand.rdb").write_text("not ours")
    found = orphans()["kept"]
    assert found.keys() == {"redis:jobs"}
    assert found["redis:jobs"] == {
        "app": "shop",
        "size": "2.5 MB",
        "since": "2026-01-02T03:04:05+00:00",
        "remove": f"rm -r {directory}/jobs.appendonlydir {directory}/jobs.rdb {directory}/jobs.kept",
    }


def test_what_an_operator_put_beside_the_releases_stays_for_root_alone(app, tmp_path):
    for name in ("releases/1/env", "builds/0123456789ab"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    (tmp_path / "release.log").write_text("{}\n")
    (tmp_path / "dump.sql").write_text("data")
    app._clear(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["dump.sql"]
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    (tmp_path / "dump.sql").unlink()
    app._clear(str(tmp_path))
    assert not tmp_path.exists()
    app._clear(str(tmp_path))


@pytest.mark.parametrize("stuck", ["user", "files"])
def test_what_cannot_be_removed_is_told(app, dunders, monkeypatch, tmp_path, stuck):
    import pwd

    user = pwd.struct_passwd(("shop", "x", 4_000_000, 4_000_000, "", "/srv/apps/shop", "/usr/sbin/nologin"))
    salt = {
        "user.delete": lambda name: False,
        "cmd.run_all": lambda command, **_: {"retcode": 1, "stderr": "no"},
    }
    dunders(app, salt=salt)
    if stuck == "user":
        with pytest.raises(CommandExecutionError, match=r"^shop: its user cannot be removed; see what it still runs"):
            app._delete(user)
    else:
        with pytest.raises(CommandExecutionError, match=r"^find: no$"):
            app._sweep(user.pw_uid)


def test_what_takes_the_place_of_an_app_is_awaited(app, dunders, monkeypatch):
    attach = {"A": {"postgres": "shop"}, "B": {"redis": "jobs"}, "C": {"postgres": "x", "url": "postgres://x/x"}}
    hosts = {"one": {"roles": ["database", "cache", "app"]}, "web": {"roles": ["app"]}}
    for host, expected in (
        ("one", [{"postgres_attachment": "postgres-attachment-shop"}, {"redis_instance": "redis-data-jobs"}]),
        ("web", []),
    ):
        dunders(app, opts={"id": host}, pillar={"hosts": hosts, "app": {"new": {"attach": attach}}})
        monkeypatch.setattr(app, "gone", lambda apps: ["old"])
        assert app.awaited(["new"]) == [{"build": "app-build-new"}, *expected]
        monkeypatch.setattr(app, "gone", lambda apps: [])
        assert app.awaited(["new"]) == []
