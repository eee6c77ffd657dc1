"""Releases on the disk."""

import json
import os
import subprocess

import pytest

from saltern.releases import history, hold, process, staging, store, supervisor


@pytest.fixture
def configured():
    """The numbers of the releases that supervisor is configured to run."""
    return []


@pytest.fixture
def disk(tmp_path, monkeypatch, configured):
    """The test's directory, which has the releases."""
    monkeypatch.setattr(process, "releases", lambda app: [(app, number) for number in configured if number > 0])
    # A negative number is a release that runs without a file that tells supervisor of it.
    monkeypatch.setattr(supervisor, "info", lambda app: {f"{app}.v{-number}.web.1": {} for number in configured})
    monkeypatch.setattr(store, "ROOT", str(tmp_path))
    monkeypatch.setattr(store, "group", lambda app: os.getgid())
    (tmp_path / "shop/builds").mkdir(parents=True)
    return tmp_path


def make(disk, number, build, outcome=None):
    directory = disk / f"shop/releases/{number}"
    directory.mkdir(parents=True)
    (directory / "release.json").write_text(f'{{"build": "{build * 64}"}}')
    (disk / f"shop/builds/{build * 12}").mkdir(exist_ok=True)
    if outcome:
        (directory / "outcome").write_text(f"{outcome}\n")


def test_pruning_keeps_what_served_what_was_refused_and_their_builds(disk):
    for number, build, outcome in (
        (1, "a", "serving"),
        (2, "b", "serving"),
        (3, "c", "refused: x"),
        (4, "d", "rolled back"),
        (5, "e", "refused: x"),
        (6, "f", "serving"),
        (7, "0", "refused: x"),
    ):
        make(disk, number, build, outcome)
    (disk / "shop/current").symlink_to("releases/6")
    pruned = {"releases": ["v1", "v2", "v3"], "builds": ["a" * 12, "b" * 12, "c" * 12]}
    assert staging.prune("shop", 2, "9" * 64).changes == pruned
    assert store.numbers("shop") == [4, 5, 6, 7]
    assert sorted(path.name[0] for path in (disk / "shop/builds").iterdir()) == ["0", "d", "e", "f"]


def test_pruning_keeps_a_release_with_which_a_run_of_a_job_is_under_way(disk, monkeypatch):
    for number, build in enumerate("abcdef", 1):
        make(disk, number, build, "serving")
    (disk / "shop/current").symlink_to("releases/6")
    monkeypatch.setattr(staging.scopes, "of_runs", lambda app: [("shop", 2)])
    assert staging.prune("shop", 2, "9" * 64).told == [
        "v2 and its build stay: a job or a one-off command runs with them"
    ]
    assert store.numbers("shop") == [2, 5, 6]
    assert sorted(path.name[0] for path in (disk / "shop/builds").iterdir()) == ["b", "e", "f"]
    # The next release finds it still under way.
    assert staging.prune("shop", 2, "9" * 64).changes == {}


@pytest.mark.parametrize("held", [None, {"release": 6, "from": 4, "until": "another"}])
def test_a_dry_run_tells_what_the_next_release_will_prune(disk, held):
    for number, build in enumerate("abcdef", 1):
        make(disk, number, build, "serving")
    # A run that was interrupted left it, and the next release clears it away before it prunes.
    make(disk, 7, "0")
    (disk / "shop/builds/.cccc.tar.gz").touch()
    (disk / "shop/current").symlink_to("releases/6")
    if held:
        (disk / "shop/hold.json").write_text(json.dumps(held))
    planned = staging.superseded("shop", 3, "9" * 64, 8)
    staging.sweep("shop")
    make(disk, 8, "9")
    staging.point("shop", 8)
    hold.unhold("shop")
    assert staging.prune("shop", 3, "9" * 64) == planned
    assert planned.changes["releases"] == ["v1", "v2", "v3", "v4"]
    assert store.numbers("shop") == [5, 6, 8]


def test_leftovers_are_what_no_run_finished(disk):
    make(disk, 1, "a", "serving")
    make(disk, 2, "b")
    (disk / "shop/current").symlink_to("releases/1")
    (disk / "shop/current.new").symlink_to("releases/2")
    (disk / "shop/releases/.3").mkdir()
    (disk / "shop/builds/.cccc.tar.gz").touch()
    names = [path.removeprefix(f"{disk}/shop/") for path in store.leftovers("shop")]
    assert names == ["current.new", "builds/.cccc.tar.gz", "releases/.3", "releases/2"]
    staging.sweep("shop")
    assert store.leftovers("shop") == []
    assert store.current("shop") == 1


# A host has v1 to v4: v4 serves, and v3 was refused. Each case: an edit by hand, what supervisor is configured to run,
# the release that serves, and the next number.
SERVING = {
    "nothing": ("true", [4], 4, 5),
    "the link is gone": ("rm current", [4], 4, 5),
    "the link is a directory": ("rm current; mkdir current", [4], 4, 5),
    "the link is a file": ("rm current; touch current", [4], 4, 5),
    "the link leads nowhere": ("ln -sfn releases/9 current", [4], 4, 5),
    "the link leads elsewhere": ("ln -sfn /tmp current", [4], 4, 5),
    "the link is to an earlier one": ("ln -sfn releases/1 current", [4], 4, 5),
    "the release is gone": ("rm -r releases/4", [4], 4, 5),
    "all of the app is gone": ("rm -r *", [4], 4, 5),
    "the link is gone and a run was interrupted": ("rm current; mkdir releases/5", [4, 5], 4, 6),
    "a run was interrupted after the link was moved": ("mkdir releases/5; ln -sfn releases/5 current", [4, 5], 5, 6),
    "what supervisor reads is gone": ("true", [], 4, 5),
    "what supervisor reads and the link are gone": ("rm current", [], 4, 5),
    "what supervisor reads and the release are gone": ("rm -r releases/4", [], 2, 4),
    "all is gone": ("rm -r *", [], None, 1),
    "all is gone but the log": (
        """rm -r *; echo '{"time": "", "who": "", "event": "serves", "release": 4}' >release.log""",
        [],
        None,
        5,
    ),
    "all is gone but what runs": ("rm -r *", [-4], 4, 5),
    "all is gone but what runs, and the link leads elsewhere": ("rm -r releases; ln -sfn /tmp current", [-4], 4, 5),
}


@pytest.mark.parametrize("script, running, serving, following", SERVING.values(), ids=SERVING)
def test_the_release_that_serves_is_known_whatever_has_become_of_its_files(
    disk, configured, script, running, serving, following
):
    for number, outcome in ((1, "serving"), (2, "serving"), (3, "refused: x"), (4, "serving")):
        make(disk, number, "a", outcome)
    (disk / "shop/current").symlink_to("releases/4")
    subprocess.run(["sh", "-c", script], cwd=disk / "shop", check=True)
    configured += running
    assert (store.current("shop"), history.next_number("shop")) == (serving, following)


def staged(disk):
    """Make a release that serves, as a run does, and return its directory."""
    build = disk / f"shop/builds/{'a' * 12}"
    build.mkdir()
    made = {"version": "1", "commit": None, "processes": {"web": "serve"}}
    (build / "build.json").write_text(json.dumps(made))
    staging.stage("shop", 1, "a" * 64, {}, [], {"KEY": "one", "URL": "two"}, {}, {})
    staging.point("shop", 1)
    return disk / "shop/releases/1"


MISPLACED = {
    "nothing": ("true", []),
    "the link is gone": ("rm ../../current", ["current"]),
    "the link is a directory": ("rm ../../current; mkdir ../../current", ["current"]),
    "the link leads elsewhere": ("ln -sfn /tmp/releases/1 ../../current", ["current"]),
    "a variable may not be read": ("chmod 0 env/KEY", ["releases/1/env/KEY"]),
    "all may read": ("chmod 755 .. . env", ["releases", "releases/1", "releases/1/env"]),
    "it is another's": (
        "chown 4711:4711 release.json env env/KEY",
        ["releases/1/env", "releases/1/release.json", "releases/1/env/KEY"],
    ),
    "what became of it is not known": ("rm outcome", ["releases/1/outcome"]),
    "the link to its build is gone": ("rm build", ["releases/1/build"]),
}


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, as a host does, to give files away")
@pytest.mark.parametrize("script, paths", MISPLACED.values(), ids=MISPLACED)
def test_what_can_be_put_right_where_it_is(disk, script, paths):
    directory = staged(disk)
    subprocess.run(["sh", "-c", script], cwd=directory, check=True)
    assert [os.path.relpath(path, disk / "shop") for path in store.misplaced("shop", 1)] == paths
    assert store.lost("shop", 1) == {}
    staging.mend("shop", 1)
    assert store.misplaced("shop", 1) == {}
    assert (store.current("shop"), store.environ("shop", 1)) == (1, {"KEY": b"one", "URL": b"two"})


LOST = {
    "nothing": ("true", {}),
    "all of it": ("rm -r ../1", {"": "is missing"}),
    "what it is": ("rm release.json", {"release.json": "is missing"}),
    "a part of that": ("truncate -s 40 release.json", {"release.json": "says nothing of a release"}),
    "its processes": ("echo '{\"build\": 1}' >release.json", {"release.json": "says nothing of a release"}),
    "its command": ("sed -i s/serve/other/ release.json", {"release.json": "names other processes than its build"}),
    "its config": ("rm -r env", {"env": "is missing"}),
    "a variable": ("rm env/KEY", {"env/KEY": "is missing"}),
    "a variable that is a directory": ("rm env/KEY; mkdir env/KEY", {"env/KEY": "is no file"}),
    "a variable that is a link": ("ln -sf /etc/passwd env/KEY", {"env/KEY": "is no file"}),
    "nothing, but one was added": ("touch env/MORE", {"env/MORE": "is no variable of this release"}),
}


@pytest.mark.parametrize("script, found", LOST.values(), ids=LOST)
def test_what_a_release_lacks_to_be_started_again(disk, script, found):
    directory = staged(disk)
    subprocess.run(["sh", "-c", script], cwd=directory, check=True)
    assert store.lost("shop", 1) == {os.path.join(directory, name).rstrip("/"): what for name, what in found.items()}
    assert store.environ("shop", 1).keys() <= {"KEY", "URL", "MORE"}


def test_an_app_whose_hold_cannot_be_read_stays_held(disk):
    staged(disk)
    hold.hold("shop", 1, None, "unhold")
    assert hold.held("shop")["until"] == "unhold"
    (disk / "shop/hold.json").write_text('{"release"')
    assert {**hold.held("shop"), "time": 0, "who": 0} == {
        "release": 1,
        "from": None,
        "until": "unhold",
        "time": 0,
        "who": 0,
    }
    hold.unhold("shop")
    assert hold.held("shop") == {}


def test_a_log_with_a_cut_last_line_is_read(disk):
    history.note("shop", "serves", 1, left=None)
    with (disk / "shop/release.log").open("a") as stream:
        stream.write('{"time": "2026')
    (line,) = history.log("shop")
    assert (line["event"], line["release"], line["left"]) == ("serves", 1, None)
