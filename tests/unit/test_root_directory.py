"""Root writes only into directories where no other user can have placed files."""

import os

import pytest

NOBODY = 65534


@pytest.fixture
def alone(root_directory, dunders, tmp_path, monkeypatch):
    """A function that runs the state for a service's directory, below a directory of root's."""
    place = tmp_path / "etc/redis"
    place.mkdir(parents=True)
    os.chown(place, NOBODY, NOBODY)
    place.chmod(0o2770)
    monkeypatch.setattr(root_directory, "_above", lambda directory: [str(tmp_path / "etc")])

    def run(test=False):
        dunders(root_directory, opts={"test": test})
        files = [f"{place}/redis-*.conf"]
        return root_directory.alone("the configuration", [str(place)], "nogroup", "0750", files)

    return run, place


def test_a_services_directory_becomes_roots_as_a_dry_run_says(alone):
    run, place = alone
    (place / "redis-jobs.conf").write_text("as it is")
    expected = {str(place): {"old": "nobody:nogroup 2770", "new": "root:nogroup 0750"}}
    dry = run(test=True)
    assert (dry["result"], dry["changes"], place.stat().st_uid) == (None, expected, NOBODY)
    state = run()
    assert (state["result"], state["changes"]) == (True, expected)
    assert (place.stat().st_uid, place.stat().st_gid, place.stat().st_mode & 0o7777) == (0, NOBODY, 0o750)
    assert run()["changes"] == {}
    assert (place / "redis-jobs.conf").read_text() == "as it is"


def test_a_dry_run_expects_a_package_to_make_the_directory(alone):
    run, place = alone
    place.rmdir()
    assert run(test=True)["changes"] == {str(place): {"old": None, "new": "root:nogroup 0750"}}
    state = run()
    assert (state["result"], state["changes"]) == (False, {})
    assert state["comment"].startswith(f"{place}: is not there; expected its package to have made it.")


PLANTED = {
    "a link": (lambda path, other: path.symlink_to(other), "is a link to {other}, of the user root; expected a file."),
    "a dangling link": (lambda path, other: path.symlink_to("/nowhere"), "is a link to /nowhere, of the user root;"),
    "a fifo": (lambda path, other: os.mkfifo(path), "is a fifo, of the user root; expected a file."),
    "a directory": (lambda path, other: path.mkdir(), "is a directory, of the user root; expected a file."),
    "a hard link": (lambda path, other: os.link(other, path), "has another name too ("),
}


@pytest.mark.parametrize("what", PLANTED)
def test_nothing_is_written_where_somebody_put(what, alone, tmp_path):
    run, place = alone
    other = tmp_path / "canary"
    other.write_text("root's")
    plant, expected = PLANTED[what]
    plant(place / "redis-jobs.conf", other)
    state = run()
    assert (state["result"], list(state["changes"])) == (False, [str(place)])
    assert state["comment"].startswith(f"{place}/redis-jobs.conf: {expected.format(other=other)}")
    assert state["comment"].endswith(f"look who, remove {place}/redis-jobs.conf, and converge again")
    # No other user can place it there again.
    assert place.stat().st_uid == 0
    assert other.read_text() == "root's"


def test_a_link_in_place_of_the_directory_is_refused(alone, tmp_path):
    run, place = alone
    (tmp_path / "other").mkdir()
    place.rmdir()
    place.symlink_to(tmp_path / "other")
    state = run()
    assert state["result"] is False
    assert state["comment"].startswith(
        f"{place}: is a link to {tmp_path}/other, of the user root; expected a directory."
    )


def test_a_directory_above_that_others_write_is_refused(alone, tmp_path):
    run, _ = alone
    (tmp_path / "etc").chmod(0o777)
    state = run()
    assert state["result"] is False
    assert state["comment"].startswith(
        f"{tmp_path}/etc: is root:root 0777; expected a directory that root alone may write."
    )


def test_a_dry_run_expects_a_package_to_make_the_directory_above_too(alone):
    run, place = alone
    place.rmdir()
    place.parent.rmdir()
    assert run(test=True)["changes"] == {str(place): {"old": None, "new": "root:nogroup 0750"}}
    state = run()
    assert (state["result"], state["changes"]) == (False, {})
    assert state["comment"].startswith(f"{place.parent}: is not there; expected its package to have made it.")
