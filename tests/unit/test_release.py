"""The decisions of the module release."""

import contextlib
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from salt.exceptions import CommandExecutionError

MIGRATES = {"web": "serve", "release": "migrate"}


WHEELS = {"shop-1-py3-none-any.whl": "a"}
OTHERS = {"shop-2-py3-none-any.whl": "b"}


def record(build, migrations=None, processes=None, reversible=False, wheels=WHEELS, **installed):
    made = {"build": build, "migrations": migrations, "processes": processes or MIGRATES, "reversible": reversible}
    return made | {"wheels": wheels} | ({"installed_migrations": installed} if installed else {})


OF_EARLIER = "an earlier bin/build made one of their builds, which does not say what its wheels migrate"
NO_KIND = "there are none of a kind that Saltern knows, and their code differs"
CROSSINGS = {
    # Builds that say what all that they install migrates.
    "all the same": ({1: record("a", code="m", django="d"), 2: record("b", code="m", django="d")}, None),
    "a migration that a wheel brings": (
        {1: record("a", code="m", wagtail="7"), 2: record("b", code="m", wagtail="8", wheels=OTHERS)},
        (2, " of wagtail", None),
    ),
    "a wheel that is new": (
        {1: record("a", code="m"), 2: record("b", code="m", wagtail="8")},
        (2, " of wagtail", None),
    ),
    "its own and a wheel's": (
        {1: record("a", code="m", wagtail="7"), 2: record("b", code="n", wagtail="8")},
        (2, " of its code, wagtail", None),
    ),
    "a wheel that is gone, and brought some": ({1: record("a", code="m", wagtail="7"), 2: record("b", code="m")}, None),
    "other wheels without any": ({1: record("a", code="m"), 2: record("b", code="m", wheels=OTHERS)}, None),
    "none that are known, and the same code": ({1: record("a", unknown="c"), 2: record("b", unknown="c")}, None),
    "none that are known, and other code": (
        {1: record("a", unknown="c"), 2: record("b", unknown="d")},
        (2, None, NO_KIND),
    ),
    "some where none were known": ({1: record("a", unknown="c"), 2: record("b", code="m")}, (2, " of its code", None)),
    "one on the way that is known, behind one that is not": (
        {1: record("a", code="m"), 2: record("b", code="n"), 3: record("c", unknown="d")},
        (2, " of its code", None),
    ),
    # Builds from before, which say what their own code has.
    "the same build": ({1: record("a"), 2: record("a")}, None),
    "the same migrations and wheels": ({1: record("a", "m"), 2: record("b", "m")}, None),
    "the same migrations and other wheels": (
        {1: record("a", "m"), 2: record("b", "m", wheels=OTHERS)},
        (2, None, OF_EARLIER),
    ),
    "the same migrations and wheels of which nothing is known": (
        {1: record("a", "m", wheels=None), 2: record("b", "m", wheels=None)},
        (2, None, OF_EARLIER),
    ),
    "other migrations": ({1: record("a", "m"), 2: record("b", "n")}, (2, "", None)),
    "migrations of which nothing is known": ({1: record("a"), 2: record("b")}, (2, None, OF_EARLIER)),
    "migrations that only the later build has": ({1: record("a"), 2: record("b", "n")}, (2, "", None)),
    "migrations that only the earlier build has": ({1: record("a", "m"), 2: record("b")}, None),
    "no process type that could run them": ({1: record("a", "m"), 2: record("b", "n", {"web": "serve"})}, None),
    "a build that says that it is reversible": ({1: record("a", "m"), 2: record("b", "n", reversible=True)}, None),
    "a migration on the way": ({1: record("a", "m"), 2: record("b", "n"), 3: record("c", "m")}, (2, "", None)),
    "a release on the way that is gone": ({1: record("a", "m"), 3: record("c", "m")}, None),
    # One of each.
    "a build from before and a later one of the same": ({1: record("a", "m"), 2: record("b", "m", code="x")}, None),
    "a later one with a wheel's, of the same wheels": ({1: record("a"), 2: record("b", django="d")}, None),
    "a later one of other wheels": (
        {1: record("a", "m"), 2: record("b", "m", code="x", django="d", wheels=OTHERS)},
        (2, None, OF_EARLIER),
    ),
    "a later one with other migrations": ({1: record("a", "m"), 2: record("b", "n", code="x")}, (2, "", None)),
    "a later one of which nothing is known": ({1: record("a"), 2: record("b", unknown="c")}, (2, None, OF_EARLIER)),
    "a build from before that came later": ({1: record("a", "m", code="x"), 2: record("b", "m")}, None),
}


@pytest.mark.parametrize("records, crossed", CROSSINGS.values(), ids=CROSSINGS)
def test_a_migration_between_two_releases_is_found_at(release, records, crossed):
    found = release.migration_between(records, max(records), 1)
    if crossed is None:
        assert found is None
        return
    number, of, why = crossed
    said = f"v{number} has run migrations{of} that v1 does not have"
    told = f"it cannot be told whether v{number} has run migrations that v1 does not have: {why}"
    assert found == (told if why else said)


def test_configs_are_compared_by_name(release):
    old, new = {"A": b"1", "B": b"1", "C": b"1"}, {"B": b"1", "C": b"2", "D": b"1"}
    assert release.compared(old, new) == {"added": ["D"], "changed": ["C"], "removed": ["A"]}
    assert release.compared(old, old) == {}


def test_values_are_masked_the_longest_first_and_short_words_left(release):
    environ = {"KEY": "s3cret-s3cret", "URL": "postgres://u:s3cret-s3cret@h/d", "DEBUG": "1", "EMPTY": ""}
    text = "at postgres://u:s3cret-s3cret@h/d with s3cret-s3cret: error 1"
    assert release.masked(text, environ) == "at <URL> with <KEY>: error 1"


@pytest.mark.parametrize(
    "code, said", [(1, "exit status 1"), (-9, "was killed by SIGKILL"), (-15, "was killed by SIGTERM")]
)
def test_an_ending_is_said_in_words(release, code, said):
    assert release.ending(code) == said


def up(seconds):
    return {"state": "RUNNING", "pid": 7, "up": seconds, "exit": ""}


ENDS = ["faq.v1.web.1 (exit status 1; not expected)"] * 3


@pytest.mark.parametrize(
    "ends, info, said",
    [
        (
            ENDS,
            {"faq.v1.web.1": up(5)},
            ["faq.v1.web.1 ended 3 times in the last 10 minutes, at last with exit status 1"],
        ),
        (ENDS[:2], {"faq.v1.web.1": up(5)}, []),
        (ENDS, {"faq.v1.web.1": up(500)}, []),
        (ENDS, {"faq.v1.web.11": up(5)}, []),
        (ENDS, {}, []),
    ],
)
def test_a_process_that_keeps_dying_is_found(release, ends, info, said):
    assert release.died(ends, info) == said


@pytest.fixture
def configured():
    """The numbers of the releases that supervisor is configured to run."""
    return []


@pytest.fixture
def store(release_store, tmp_path, monkeypatch, dunders, configured):
    """The module, with its files below a directory of the test."""
    salt = {
        "process.releases": lambda app: [(app, number) for number in configured if number > 0],
        # What runs with nothing that tells supervisor of it is below zero here.
        "process.info": lambda app: {f"{app}.v{-number}.web.1": {} for number in configured},
    }
    dunders(release_store, salt=salt)
    monkeypatch.setattr(release_store, "ROOT", str(tmp_path))
    monkeypatch.setattr(release_store, "_group", lambda app: os.getgid())
    (tmp_path / "shop/builds").mkdir(parents=True)
    return release_store


def make(store, tmp_path, number, build, outcome=None):
    directory = tmp_path / f"shop/releases/{number}"
    directory.mkdir(parents=True)
    (directory / "release.json").write_text(f'{{"build": "{build * 64}"}}')
    (tmp_path / f"shop/builds/{build * 12}").mkdir(exist_ok=True)
    if outcome:
        (directory / "outcome").write_text(f"{outcome}\n")


def test_pruning_keeps_what_served_what_was_refused_and_their_builds(store, tmp_path):
    for number, build, outcome in (
        (1, "a", "serving"),
        (2, "b", "serving"),
        (3, "c", "refused: x"),
        (4, "d", "rolled back"),
        (5, "e", "refused: x"),
        (6, "f", "serving"),
        (7, "0", "refused: x"),
    ):
        make(store, tmp_path, number, build, outcome)
    (tmp_path / "shop/current").symlink_to("releases/6")
    store.prune("shop", 2, "9" * 64)
    assert store.numbers("shop") == [4, 5, 6, 7]
    assert sorted(path.name[0] for path in (tmp_path / "shop/builds").iterdir()) == ["0", "d", "e", "f"]


def test_leftovers_are_what_no_run_finished(store, tmp_path):
    make(store, tmp_path, 1, "a", "serving")
    make(store, tmp_path, 2, "b")
    (tmp_path / "shop/current").symlink_to("releases/1")
    (tmp_path / "shop/current.new").symlink_to("releases/2")
    (tmp_path / "shop/releases/.3").mkdir()
    (tmp_path / "shop/builds/.cccc.tar.gz").touch()
    names = [path.removeprefix(f"{tmp_path}/shop/") for path in store.leftovers("shop")]
    assert names == ["current.new", "builds/.cccc.tar.gz", "releases/.3", "releases/2"]
    store.sweep("shop")
    assert store.leftovers("shop") == []
    assert store.current("shop") == 1


# What happened to a host where v4 of v1 to v4 serves, and v3 was refused: what was done by hand, what supervisor is
# configured to run, which release serves, and the next one's number.
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
    store, tmp_path, configured, script, running, serving, following
):
    for number, outcome in ((1, "serving"), (2, "serving"), (3, "refused: x"), (4, "serving")):
        make(store, tmp_path, number, "a", outcome)
    (tmp_path / "shop/current").symlink_to("releases/4")
    subprocess.run(["sh", "-c", script], cwd=tmp_path / "shop", check=True)
    configured += running
    assert (store.current("shop"), store.next_number("shop")) == (serving, following)


def staged(store, tmp_path):
    """Make a release that serves, as a run does, and return its directory."""
    build = tmp_path / f"shop/builds/{'a' * 12}"
    build.mkdir()
    made = {"version": "1", "commit": None, "processes": {"web": "serve"}}
    (build / "build.json").write_text(json.dumps(made))
    store.stage("shop", 1, "a" * 64, {}, {"KEY": "one", "URL": "two"}, {}, {})
    store.point("shop", 1)
    return tmp_path / "shop/releases/1"


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
def test_what_can_be_put_right_where_it_is(store, tmp_path, script, paths):
    directory = staged(store, tmp_path)
    subprocess.run(["sh", "-c", script], cwd=directory, check=True)
    assert [os.path.relpath(path, tmp_path / "shop") for path in store.misplaced("shop", 1)] == paths
    assert store.lost("shop", 1) == {}
    store.mend("shop", 1)
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
def test_what_a_release_lacks_to_be_started_again(store, tmp_path, script, found):
    directory = staged(store, tmp_path)
    subprocess.run(["sh", "-c", script], cwd=directory, check=True)
    assert store.lost("shop", 1) == {os.path.join(directory, name).rstrip("/"): what for name, what in found.items()}
    assert store.environ("shop", 1).keys() <= {"KEY", "URL", "MORE"}


def test_an_app_whose_hold_cannot_be_read_stays_held(store, tmp_path):
    staged(store, tmp_path)
    store.hold("shop", 1, None, "unhold")
    assert store.held("shop")["until"] == "unhold"
    (tmp_path / "shop/hold.json").write_text('{"release"')
    assert {**store.held("shop"), "time": 0, "who": 0} == {
        "release": 1,
        "from": None,
        "until": "unhold",
        "time": 0,
        "who": 0,
    }
    store.unhold("shop")
    assert store.held("shop") == {}


def test_a_release_that_is_held_and_lacks_something_is_told_and_left_alone(release, dunders):
    lost, damage = {"/srv/apps/shop/releases/2/env/KEY": "is missing"}, []
    salt = {
        "release_store.record": lambda app, number: record("b"),
        "release_store.lost": lambda app, number: dict(lost),
        "build.damage": lambda app, sha256: "".join(damage),
        "process.displaced": lambda *_: {},
    }
    dunders(release, salt=salt, pillar={"app": {"shop": {"build": {"sha256": "a"}}}})
    assert release._lost("shop", 2, {}) == {"/srv/apps/shop/releases/2/env/KEY": {"old": "is missing", "new": None}}
    with pytest.raises(CommandExecutionError, match=r"^shop: v2 is held, .*/releases/2/env/KEY is missing\. .*unhold"):
        release._lost("shop", 2, {"release": 2})
    lost.clear()
    assert release._lost("shop", 2, {"release": 2}) == {}
    damage.append(".venv/bin/python is missing")
    with pytest.raises(CommandExecutionError, match=r"builds/b is damaged: \.venv/bin/python is missing\. "):
        release._lost("shop", 2, {"release": 2})


@pytest.mark.parametrize(
    "state, said",
    [
        ("BACKOFF", "ends right after its start, and is started again and again"),
        ("RUNNING", "runs"),
        ("UNKNOWN", "UNKNOWN"),
        (None, "is not known to supervisor"),
    ],
)
def test_how_a_process_is_needs_no_knowledge_of_supervisor(release, state, said):
    assert release.in_words(state) == said


def test_a_log_with_a_cut_last_line_is_read(store, tmp_path):
    store.note("shop", "serves", 1, left=None)
    with (tmp_path / "shop/release.log").open("a") as stream:
        stream.write('{"time": "2026')
    (line,) = store.log("shop")
    assert (line["event"], line["release"], line["left"]) == ("serves", 1, None)


def test_who_has_the_port_of_an_app_is_not_asked(release, dunders):
    looked_up, strangers, asked = [], [], []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    def stranger(port, pids):
        looked_up.append(pids)
        return strangers[0] if strangers else None

    asks = {"listener.stranger": stranger, "process.pids": lambda *process: [process]}
    health = {"path": "/", "status": 200, "timeout": 5}
    dunders(release, salt=asks, pillar={"app": {"shop": {"health": health, "domains": []}}})
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert release._ask("shop", 3, "web.1", port) is None
        strangers.append("user evil, PID 7 (nc)")
        assert release._ask("shop", 3, "web.1", port) == f"port {port} is taken by user evil, PID 7 (nc)"
        server.shutdown()
    assert release._ask("shop", 3, "web.1", port) == "/ cannot be asked (ConnectionRefusedError)"
    # Where nobody listens it is not looked up.
    assert looked_up == [[("shop", 3, "web.1")]] * 2
    assert asked == ["/"]


LEADS = {
    "what was asked for": (200, None, None),
    "another status": (503, None, "/healthz answered 503, not 200"),
    "a redirect to nowhere": (304, None, "/healthz answered 304, not 200"),
    "another page": (302, "/login/?next=/healthz", "/healthz answered 302, which leads to /login/; expected 200"),
    "a page of another host": (
        301,
        "https://u:secret@a.example.com/b?c#d",
        "/healthz answered 301, which leads to /b;",
    ),
    "its own path": (302, "/healthz", "leads to itself; expected 200 from itself"),
    "its own path at HTTPS": (308, "https://a/healthz", "leads to itself, at another address; expected 200"),
    "a host alone": (307, "https://a.example.com", "leads to /; expected"),
    "what commands a terminal": (302, "/\x1b[31m\r\nx", "leads to /?[31m"),
    "what is no address": (302, "http://[a", "leads to http://[a; expected"),
    "no end": (302, "/" + "a" * 9000, f"leads to /{'a' * 99}; expected"),
}


@pytest.mark.parametrize("status, location, expected", LEADS.values(), ids=LEADS)
def test_a_health_path_leads_to(release, status, location, expected):
    found = release.answered("shop", {"path": "/healthz", "status": 200}, status, location)
    assert expected in found if expected else found is None
    assert isinstance(found, release.Redirect) == (expected is not None and "leads" in expected)
    assert ("secret" not in str(found) and "app.shop.health.path" in str(found)) or location is None


def test_a_table_tells_why_and_announces_no_lines(release):
    why = "v2 was refused at the step health: web.1 ended; v1 goes on serving"
    assert release.reason_of(f"refused: {why}. shop[web.1] logged last:") == why
    assert release.reason_of(f"refused: {why}") == why
    assert (release.reason_of("serving"), release.reason_of("")) == ("", "")


def test_a_redirect_may_be_what_a_healthy_process_answers(release):
    assert release.answered("shop", {"path": "/", "status": 302}, 302, "/login") is None


def test_a_password_is_masked_where_it_stands_alone_too(release):
    environ = {"DATABASE_URL": "postgres://u:p%40ssw0rd-123@h/d"}
    assert release.masked('for user "u": p@ssw0rd-123 or p%40ssw0rd-123', environ) == (
        'for user "u": <DATABASE_URL> or <DATABASE_URL>'
    )


MIGRATED = {
    "alone": (["one"], [0], 1, None),
    "alone, and it fails": (["one"], [1], 1, "exit status 1"),
    "another host was faster": (["one", "two"], [1, 0], 2, None),
    "it fails everywhere": (["one", "two"], [1, 1, 2], 3, "exit status 2"),
}


@pytest.mark.parametrize("hosts, codes, runs, refused", MIGRATED.values(), ids=MIGRATED)
def test_a_migration_is_tried_again_where_another_host_may_run_it_too(
    release, dunders, monkeypatch, hosts, codes, runs, refused
):
    left = list(codes)
    salt = {
        "release_store.record": lambda app, number: record("a"),
    }
    dunders(release, salt=salt, pillar={"nginx": {"alone": hosts == ["one"]}}, opts={"id": "one"})
    monkeypatch.setattr(release, "_run_release", lambda move: left.pop(0))
    monkeypatch.setattr(release, "RELEASE_PAUSE", 0)
    move = release.Move("shop", 1, {}, None, {})
    if refused:
        with pytest.raises(release.Refusal, match=refused):
            release._release(move)
    else:
        release._release(move)
    assert len(codes) - len(left) == runs


@pytest.mark.parametrize(
    "left, build, database, runs",
    [(None, "a", "db1", 0), (1, "a", "db1", 0), (2, "a", "db1", 1), (1, "b", "db1", 1), (1, "a", "db2", 1)],
)
def test_what_another_host_has_migrated_counts_for_a_new_release_of_the_same_alone(
    release, dunders, monkeypatch, tmp_path, left, build, database, runs
):
    environ = {"DATABASE_URL": "postgres://db1/shop"}
    salt = {"release_store.record": lambda app, number: record(build), "attachment.environ": lambda app: environ}
    dunders(release, salt=salt, pillar={"nginx": {"alone": True}})
    monkeypatch.setattr(release, "LOCKS", str(tmp_path))
    monkeypatch.setattr(release, "MIGRATED", f"{tmp_path}/{{app}}")
    monkeypatch.setattr(release, "_movable", lambda app, sha256: {"new": True, "number": 2})
    assert release.migrated("shop", "a")
    environ["DATABASE_URL"] = f"postgres://{database}/shop"
    ran = []
    monkeypatch.setattr(release, "_run_release", lambda move: ran.append(move) or 0)
    release._release(release.Move("shop", 2, {}, left, {}))
    assert len(ran) == runs


def test_what_is_migrated_is_the_build_that_was_asked_for(release, dunders, monkeypatch):
    dunders(release, salt={})
    monkeypatch.setattr(release, "_locked", lambda app: contextlib.nullcontext())
    monkeypatch.setattr(release, "plan", lambda app: {"new": False, "number": 2, "held": {}})
    monkeypatch.setattr(release, "_settings", lambda app: {"build": {"sha256": "a" * 64}})
    assert release.migrate("shop", "a" * 64) == "shop: v2 is what is declared; nothing to migrate"
    with pytest.raises(CommandExecutionError, match=r"^shop: .* told to run build a{12}, and is asked for b{12};"):
        release.migrate("shop", "b" * 64)
    assert release.movable("shop", "a" * 64)
    # A pillar of before says that even where what it tells of is held.
    monkeypatch.setattr(release, "plan", lambda app: {"new": False, "number": 2, "held": {"build": "a"}})
    for ask in (release.movable, release.migrated):
        with pytest.raises(CommandExecutionError, match=r"^shop: .* told to run build a{12}, and is asked for b{12};"):
            ask("shop", "b" * 64)
        with pytest.raises(CommandExecutionError, match=r"^shop: v2 is held"):
            ask("shop", "a" * 64)


@pytest.mark.parametrize("found, asked", [(record("a"), "a"), ({}, "")])
def test_a_release_is_asked_about_the_build_that_it_is_of_as_far_as_it_is_known(release, dunders, found, asked):
    builds = []

    def ask(app, number, sha256, ports, asker):
        builds.append(sha256)
        return None, None

    dunders(release, salt={"release_store.record": lambda app, number: found, "contract.ask": ask})
    release._contract(release.Move("shop", 2, {}, 2, {}))
    assert builds == [asked]


@pytest.mark.parametrize(
    "line, is_error",
    [
        ("2026-11-22 ERROR shop.views: no such table", True),
        ("Traceback (most recent call last):", True),
        ("[2026-11-22 10:00:00 +0000] [12] [error] worker failed", True),
        ("INFO errors: 0", False),
        ('10.0.0.1 - - [22/Nov/2026] "GET /ERROR?x=1 HTTP/1.1" 404 12', False),
        ('INFO:     10.0.0.1:4711 - "GET /Traceback HTTP/1.1" 200 OK', False),
        # What a client has asked for stands in the app's own words too.
        ("INFO shop.search: nothing found for ERROR", False),
        ("2026-11-22 WARNING django.request: Not Found: /CRITICAL", False),
        ('{"level": "info", "message": "nothing found for ERROR"}', False),
        ('{"message": "no such table", "levelname": "ERROR"}', True),
        ("ERROR django.security.DisallowedHost: Invalid HTTP_HOST header: 'evil'.", False),
        ("Invalid HTTP_HOST header: 'ERROR'. You may need to add 'ERROR' to ALLOWED_HOSTS.", False),
        ("ERROR django.request: Internal Server Error: /", True),
    ],
)
def test_what_tells_of_an_error(release, line, is_error):
    assert release.errors_in([line]) == [line] * is_error


FRAMES = ["Traceback (most recent call last):", '  File "shop.py", line 1, in view', "    host = request.get_host()"]
CHAINED = ["", "During handling of the above exception, another exception occurred:", ""]
OWN, CLIENTS = (
    "django.db.utils.OperationalError: no such table",
    "django.core.exceptions.DisallowedHost: Invalid 'evil'",
)


@pytest.mark.parametrize(
    "lines, errors",
    [
        (["ERROR shop: failed", *FRAMES, OWN], 2),
        (["ERROR Bad Request: /", *FRAMES, CLIENTS], 0),
        ([*FRAMES, CLIENTS, "ERROR shop: failed"], 1),
        (["ERROR shop: failed", "INFO goes on", *FRAMES, CLIENTS], 1),
        (["ERROR:    Exception in ASGI application", *FRAMES, "BrokenPipeError: [Errno 32] Broken pipe"], 0),
        (["ERROR shop: failed", *FRAMES, "KeyError: 'host'", *CHAINED, *FRAMES, CLIENTS], 0),
        (["ERROR shop: failed", *FRAMES, CLIENTS, *CHAINED, *FRAMES, OWN], 2),
        ([*FRAMES, CLIENTS, *FRAMES, OWN], 1),
        (FRAMES, 1),
        (FRAMES[:1], 1),
    ],
)
def test_an_error_that_a_client_provoked_is_none_of_the_release(release, lines, errors):
    assert len(release.errors_in(lines)) == errors


CUT = {
    "nothing": ((0, 0), ""),
    "a request": ((1, 0), "1 request cut off, not ended in 90 s"),
    "requests and streams": ((2, 3), "2 requests cut off, not ended in 90 s; 3 streams cut off, not ended in 5 s"),
}


@pytest.mark.parametrize("counts, said", CUT.values(), ids=CUT)
def test_what_a_release_cut_off_is_said(release, in_flight, dunders, counts, said):
    dunders(release, salt={"in_flight.worded": in_flight.worded})
    cut = dict(zip(("requests", "streams"), counts, strict=True))
    assert release.cut_off(cut, {"requests": "not ended in 90 s", "streams": "not ended in 5 s"}) == said


def test_a_process_that_was_killed_is_named(release):
    lines = [
        "v1 web.2 had not ended within 5 s, killed: 77 (uvicorn)",
        "v1 web.1 had not ended within 5 s, killed: 78 (uvicorn), 79 (python)",
        "v1 web.3 ends",
    ]
    assert release.killed_in(lines, "shop") == (
        "web.1 was killed after 5 s (app.shop.grace.web); web.2 was killed after 5 s (app.shop.grace.web)"
    )
    assert release.killed_in(lines[2:], "shop") == ""


@pytest.mark.parametrize(
    "error, name",
    [
        (SystemExit(143), "SIGTERM"),
        (SystemExit(129), "SIGHUP"),
        (KeyboardInterrupt(), "SIGINT"),
        (KeyError("a mistake of ours"), "KeyError"),
        (SystemExit(0), "a signal"),
        (SystemExit(None), "a signal"),
        (SystemExit("text"), "a signal"),
    ],
)
def test_the_signal_that_ended_a_run_is_named(release, error, name):
    assert release.ended_by(error) == name


MOVED = {
    "before the link": ("health", 1, ["taken back"]),
    "at the link": ("point", 1, ["taken back"]),
    "after the link": ("point", 2, ["counted", "point", "workers", "stop", "prune"]),
    "while requests are waited for": ("drain", 2, ["counted", "stop", "prune"]),
    "while the old processes stop": ("stop", 2, ["counted", "stop", "prune"]),
}


@pytest.mark.parametrize("step, serves, done", MOVED.values(), ids=MOVED)
def test_a_run_that_a_signal_ends_leaves_one_release_running(release, dunders, monkeypatch, step, serves, done):
    taken = []

    def signalled(_):
        raise SystemExit(143)

    def take(name):
        return lambda _: taken.append(name)

    steps = {name: take(name) for name in ("health", "point", "workers", "drain", "stop", "prune")}
    # A step that a signal interrupts is taken again, with success.
    tries = iter([signalled, take(step)])
    steps[step] = lambda move: next(tries)(move)
    store = {"current": lambda _: serves, "note": lambda *_, **__: None}
    dunders(
        release,
        salt={f"release_store.{name}": function for name, function in store.items()}
        | {"in_flight.drain": lambda *_: taken.append("counted") or {}},
    )
    monkeypatch.setattr(release, "_take_back", lambda *_, **__: taken.append("taken back"))
    monkeypatch.setattr(release, "_message", lambda *_: "")
    monkeypatch.setattr(release, "_leaving", lambda _: [])
    monkeypatch.setattr(release, "cut_off", lambda *_: "")
    before = list(steps)[: list(steps).index(step)]
    with pytest.raises(SystemExit):
        release._take(steps, release.Move("shop", 2, {}, 1, {}), "serves")
    assert taken[len(before) :] == done


OUT_OF_MEMORY = "exit status 137, out of memory: the kernel has ended 1 of its processes"


@pytest.mark.parametrize(
    "told, end", [([f"v3 web.1 has ended: {OUT_OF_MEMORY}"], f": {OUT_OF_MEMORY}"), ([], "")], ids=["told", "not told"]
)
def test_why_a_process_keeps_dying_is_told_in_its_launchers_words(release, dunders, told, end):
    asked = []

    def lines(matches, **options):
        asked.append((matches, options["grep"]))
        ends = ["INFO exited: shop.v3.web.1 (exit status 137; not expected)"] * 3
        return [{"MESSAGE": text} for text in (ends if "SYSLOG_IDENTIFIER=supervisord" in matches else told)]

    info = {"shop.v3.web.1": {"up": 3}}
    salt = {"journal.lines": lines, "process.info": lambda app, number: info}
    dunders(release, salt=salt | {"release_store.created": lambda app, number: 0}, context={})
    begins = "shop.v3.web.1 ended 3 times in the last 10 minutes, at last with exit status 137"
    assert release.dying("shop", 3) == [begins + end]
    assert asked[1] == (["SYSLOG_IDENTIFIER=shop[web.1]", "_UID=0"], "^v3 web.1 has ended: ")


@pytest.mark.parametrize("created, count", [(1000, 4), (1001.5, 3), (1004, 0)], ids=["its own", "one before", "all"])
def test_ends_of_an_earlier_release_of_the_same_number_are_not_this_ones(release, dunders, created, count):
    said = "INFO exited: shop.v1.web.1 (exit status 1; not expected)"
    times = [1_001_000_000, 1_002_000_000, 1_003_000_000, 1_003_500_000]

    def lines(matches, **options):
        if "SYSLOG_IDENTIFIER=supervisord" not in matches:
            return []
        return [{"MESSAGE": said, "__REALTIME_TIMESTAMP": str(time)} for time in times]

    info = {"shop.v1.web.1": {"up": 3}}
    salt = {"journal.lines": lines, "process.info": lambda app, number: info}
    dunders(release, salt=salt | {"release_store.created": lambda app, number: created}, context={})
    ended = f"shop.v1.web.1 ended {count} times in the last 10 minutes, at last with exit status 1"
    assert release.dying("shop", 1) == ([ended] if count else [])
