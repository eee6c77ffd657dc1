"""Redis instances that no app attaches any more, and whose data they leave."""

import datetime
import grp
import hashlib
import json
import os

import pytest
from salt.exceptions import CommandExecutionError

from saltern import kept, services
from saltern.host import Host, Lent
from saltern.services import redis_closing, redis_connection, redis_users
from saltern.system import systemd

CONFIG = "# The instance {0}, which belongs to the app {0}-app. Managed by Saltern (formula redis).\n{1}\n"


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory with the configuration of two of our instances, of Debian's own and of somebody else's."""
    (tmp_path / "data/redis").mkdir(parents=True)
    monkeypatch.setattr(kept, "ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(kept, "before", dict)
    # One was written before Redis had TLS here.
    for name, port in (("jobs", "port 0\ntls-port 8199"), ("shop", "port 8299")):
        (tmp_path / f"redis-{name}.conf").write_text(CONFIG.format(name, port))
    (tmp_path / "redis.conf").write_text("port 6379\n")
    (tmp_path / "redis-by-hand.conf").write_text("port 6380\n")
    return tmp_path


@pytest.fixture
def run(redis_instance, dunders, directory, monkeypatch):
    """A function that runs a state; it returns the answer, the questions to systemd, and the files."""

    def run(function, *arguments, test=False, stops=True, users=(), remote=()):
        asked = []
        functions = {
            f"service.{word}": lambda unit, word=word: asked.append((word, unit)) or stops
            for word in ("stop", "disable")
        }
        connected = {8199: list(remote), 8299: []}
        monkeypatch.setattr(redis_closing, "users", lambda host, service, port, staying: list(users))
        monkeypatch.setattr(redis_connection, "remote", lambda host, port: connected.get(port))
        instances = {"queue": {"owner": "jobs-app", "port": 8199}, "shop": {"owner": "shop-app", "port": 8299}}
        instances |= {"cache": {"owner": "faq", "port": 8199}}
        pillar = {"redis": {"instances": {name: one | {"owner": None} for name, one in instances.items()}}}
        if function == "replaced":
            pillar["redis"]["instances"] = instances
        pillar["hosts"] = {"one": {"address": "10.0.0.1"}}
        dunders(redis_instance, salt=functions, opts={"test": test, "id": "one"}, pillar=pillar, running={})
        state = getattr(redis_instance, function)(*arguments)
        return state, asked, sorted(path.name for path in directory.glob("*.conf"))

    return run


@pytest.fixture
def retired(run, directory):
    """``redis_instance.retired`` with these attached instances."""
    return lambda *instances, **options: run("retired", str(directory), list(instances), **options)


ALL = ["redis-by-hand.conf", "redis-jobs.conf", "redis-shop.conf", "redis.conf"]
WITHOUT_JOBS = [name for name in ALL if name != "redis-jobs.conf"]
STOPPED = [("stop", "redis-server@jobs"), ("disable", "redis-server@jobs")]
JOBS_GOES = {"jobs": {"old": "present", "new": None}}


def test_an_instance_that_is_attached_is_left_alone(retired):
    state, asked, files = retired("shop", "jobs")
    assert (state["result"], state["changes"], asked, files) == (True, {}, [], ALL)


def test_an_instance_that_is_no_longer_attached_is_stopped_and_its_data_marked(retired, directory):
    state, asked, files = retired("shop")
    assert (state["result"], state["changes"]) == (True, JOBS_GOES)
    assert (asked, files) == (STOPPED, WITHOUT_JOBS)
    (mark,) = (directory / "data/redis").iterdir()
    assert mark.name == "jobs.kept"
    kept = json.loads(mark.read_text())
    assert kept["app"] == "jobs-app"
    assert datetime.datetime.fromisoformat(kept["since"]) <= datetime.datetime.now(datetime.UTC)
    assert retired("shop")[0]["changes"] == {}


def test_a_dry_run_says_what_would_be_stopped_and_stops_nothing(retired):
    state, asked, files = retired("shop", test=True)
    assert (state["result"], state["changes"]) == (None, JOBS_GOES)
    assert (asked, files) == ([], ALL)


def test_an_instance_that_a_release_has_runs_on(retired):
    state, asked, files = retired("shop", users=["jobs-app v3"])
    assert (state["result"], state["changes"], asked, files) == (True, {}, [], ALL)
    assert state["comment"] == "No other instance is there; jobs runs on for jobs-app v3"


def test_an_instance_that_another_host_is_connected_to_runs_on(retired):
    state, asked, files = retired("shop", remote=["10.0.0.4"])
    assert (state["result"], state["changes"], asked, files) == (True, {}, [], ALL)
    assert state["comment"] == "No other instance is there; jobs runs on for 10.0.0.4, which is connected"


def test_an_instance_that_does_not_stop_is_told_and_tried_again(retired):
    state, _, files = retired("shop", stops=False)
    assert (state["result"], state["changes"], files) == (False, {}, ALL)
    assert state["comment"] == "redis-server@jobs does not stop; see systemctl status redis-server@jobs"
    assert retired("shop")[0]["result"] is True


def test_an_instance_is_stopped_first_only_where_another_one_has_its_port(run, directory):
    arguments = ("replaced", str(directory), ["shop", "queue"])
    assert run(*arguments, [8299, 8399])[1:] == ([], ALL)
    state, asked, files = run(*arguments, [8299, 8199], users=["jobs-app v3"])
    assert (state["changes"], asked, files) == (JOBS_GOES, STOPPED, WITHOUT_JOBS)


def test_an_instance_is_not_stopped_for_one_that_is_refused(run, directory):
    (directory / "data/redis/cache.kept").write_text('{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}')
    state, asked, files = run("replaced", str(directory), ["shop", "cache"], [8299, 8199])
    assert (state["changes"], asked, files) == ({}, [], ALL)


def test_data_that_was_kept_is_the_apps_again(run, directory):
    mark = directory / "data/redis/cache.kept"
    mark.write_text('{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}')
    arguments = ("attached", "cache", "shop", str(directory))
    expected = {"cache": {"old": "kept", "new": "attached"}}
    dry = run(*arguments, test=True)[0]
    assert (dry["result"], dry["changes"], mark.exists()) == (None, expected, True)
    state = run(*arguments)[0]
    assert (state["result"], state["changes"], mark.exists()) == (True, expected, False)
    assert run(*arguments)[0]["changes"] == {}


def test_the_data_of_another_app_is_not_given_away(run, directory):
    mark = directory / "data/redis/cache.kept"
    mark.write_text('{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}')
    for name, app, owner in (("cache", "faq", "shop"), ("jobs", "faq", "jobs-app")):
        state = run("attached", name, app, str(directory))[0]
        assert (state["result"], state["changes"]) == (False, {})
        assert state["comment"].startswith(f"app.faq.attach: the Redis instance {name} holds the data of {owner}; ")
    assert mark.exists()


def test_a_new_instance_or_ones_own_needs_no_change(run, directory):
    for name, app in (("new", "faq"), ("jobs", "jobs-app")):
        state = run("attached", name, app, str(directory))[0]
        assert (state["result"], state["changes"]) == (True, {})


def digest(password):
    return hashlib.sha256(password.encode()).hexdigest()


@pytest.fixture
def redis(redis_instance, dunders, tmp_path, monkeypatch):
    """A function that sets the password of shop's instance and runs a state; and the instance's file of users."""
    monkeypatch.setattr(redis_users, "USERS", str(tmp_path / "users"))
    monkeypatch.setattr(redis_users.grp, "getgrnam", lambda name: grp.getgrgid(os.getgid()))
    monkeypatch.setattr(redis_users.os, "fchown", lambda *arguments: None)
    admits, asked = {}, []

    def run(function, password="new", test=False, holders=None, connected=None, listen=(), overlap=168, **more):
        def admit(host, name, port, rules, gone=()):
            admits.update({user: [words[1][1:]] for user, *words in rules})
            asked.append(("admit", sorted(user for user, *_ in rules), sorted(gone)))
            for user in gone:
                # For an unknown user, Redis answers that it deleted none.
                admits.pop(user, None)

        def admitted(host, name, port):
            if more.get("wrong"):
                raise CommandExecutionError("jobs: Redis answers AUTH with: -WRONGPASS invalid")
            return dict(admits)

        held = holders or {}
        monkeypatch.setattr(Host, "own_password", lambda self, kind, name: kind)
        monkeypatch.setattr(Host, "lent", lambda self, service, name: list(more.get("lent", ())))
        monkeypatch.setattr(
            redis_closing,
            "holders",
            lambda host, service, leaving, staying: held if leaving or not test else more["stay"],
        )
        monkeypatch.setattr(redis_connection, "admitted", admitted)
        monkeypatch.setattr(redis_connection, "admit", admit)
        monkeypatch.setattr(redis_connection, "connected", lambda host, name, port: connected or {})
        monkeypatch.setattr(systemd, "started", lambda unit, among: 1)
        monkeypatch.setattr(systemd, "restart", lambda unit: asked.append(("restart", unit)))
        instances = {"jobs": {"owner": "shop", "port": 8199, "password": password}}
        own = {"listen": list(listen), "overlap": overlap, "instances": instances}
        pillar = {"redis": own, "hosts": {"one": {"address": "10.0.0.1"}}}
        dunders(redis_instance, salt={}, pillar=pillar, opts={"test": test, "id": "one"})
        dunders(redis_instance, running=more.get("running", {}), context={}, instance_id="", lowstate=[])
        del asked[:]
        if function == "users":
            state = redis_instance.users("jobs", "shop", str(tmp_path))
        elif function == "watch":
            state = redis_instance.mod_watch("jobs", 8199, sfun="admitted")
        elif function == "admitted":
            state = redis_instance.admitted("jobs", 8199)
        else:
            state = redis_instance.retired(str(tmp_path), ["jobs"])
        path = tmp_path / "users/jobs.users"
        return state, redis_connection.admitted_by(path.read_text().splitlines() if path.exists() else []), list(asked)

    return run


OLD, NEW = (services.formulas()["redis"].login("shop", password) for password in ("old", "new"))
CLOSES = {OLD: {"old": "replaced", "new": "closed to logins"}}


def test_both_passwords_are_admitted_without_a_restart_until_nobody_has_the_old_one(redis):
    state, users, _ = redis("users", "old")
    assert (state["changes"], users.keys()) == ({"jobs": {"old": None, "new": [OLD]}}, {OLD, "operator"})
    assert redis("users", "old")[0]["changes"] == {}
    assert redis("watch", "old")[2] == [("restart", "redis-server@jobs")]
    state, users, _ = redis("users")
    assert state["changes"] == {"jobs": {"old": [OLD], "new": sorted([OLD, NEW])}}
    assert users == {OLD: [digest("old")], NEW: [digest("new")], "operator": [digest("operator")]}
    # The old user is noted only once.
    assert redis("users")[0]["changes"] == {}
    held = {OLD: ["shop v3"]}
    state, users, asked = redis("retired", holders=held)
    assert (state["changes"], users.keys(), asked) == ({}, {OLD, NEW, "operator"}, [])
    assert state["comment"].endswith(f"the login {OLD} stays open for shop v3")
    dry = redis("retired", test=True, holders=held, stay={}, connected={OLD: ["127.0.0.1"]})[0]
    assert (dry["result"], dry["changes"]) == (None, CLOSES)
    for connected in ("127.0.0.1", "10.0.0.4"):
        assert redis("retired", connected={OLD: [connected]})[0]["changes"] == {}
    # Another host may run the app and not be connected now.
    state = redis("retired", listen=["10.0.0.1"])[0]
    assert (state["changes"], "stays open for other app hosts until " in state["comment"]) == ({}, True)
    assert redis("retired", listen=["10.0.0.1"], overlap=0, test=True, stay={})[0]["changes"] == CLOSES


def test_a_running_instance_is_told_of_users_and_of_those_that_are_gone(redis):
    redis("users", "old")
    redis("users")
    # The users after a start of Redis.
    assert redis("admitted")[2] == [("restart", "redis-server@jobs")]
    redis("watch", wrong=True)
    assert redis("watch")[2] == [("restart", "redis-server@jobs")]


def test_an_instance_that_has_read_its_users_or_would_is_not_told(redis):
    redis("users", "old")
    restarted = {"x": {"name": "redis-server@jobs", "changes": {"x": 1}, "result": True}}
    for test in (False, True):
        state, _, asked = redis("watch", "old", running=restarted, test=test)
        assert (state["changes"], asked) == ({}, [])


def test_the_user_of_before_there_were_logins_is_taken_over(redis, tmp_path):
    before = f"# The instance jobs\nuser default off\nuser shop on #{digest('old')} ~* &* +@all -@admin\n"
    (tmp_path / "redis-jobs.conf").write_text(f"{before}user operator on #{digest('x')} ~* &* +@all\n")
    dry = redis("users", test=True)[0]
    assert (dry["result"], dry["changes"]) == (None, {"jobs": {"old": ["shop"], "new": ["shop", NEW]}})
    _, users, _ = redis("users")
    assert users == {"shop": [digest("old")], NEW: [digest("new")], "operator": [digest("operator")]}


LENT = [
    Lent("audit", "whole", "audit_0a0a0a", "audit"),
    Lent("reports", "read", "reports_0b0b0b", "reports"),
]


def test_borrowers_of_an_instance_are_users_with_their_own_rights(redis, tmp_path):
    redis("users", lent=LENT)
    text = (tmp_path / "users/jobs.users").read_text()
    whole, read = (f"user {one.login} on #{digest(one.password)} " for one in LENT)
    assert f"{whole}~* &* +@all -@admin +config|get\n" in text
    assert f"{read}%R~* +@read +@connection -@admin\n" in text
    state = redis("users", lent=LENT)[0]
    assert (state["result"], state["changes"]) == (True, {})


def test_a_former_borrowers_login_is_closed_when_no_release_has_it(redis, tmp_path):
    redis("users", lent=LENT)
    redis("watch", lent=LENT)
    redis("users", lent=LENT[:1])
    path = tmp_path / "users/jobs.users"
    # As before, even where another password has hours left.
    assert f"user reports_0b0b0b on #{digest('reports')} %R~* +@read" in path.read_text()
    held = redis("retired", lent=LENT[:1], holders={"reports_0b0b0b": ["reports v3"]}, listen=["10.0.0.1"])[0]
    assert (held["changes"], held["comment"]) == (
        {},
        "No other instance is there; the login reports_0b0b0b stays open for reports v3",
    )
    closed = redis("retired", lent=LENT[:1], listen=["10.0.0.1"])[0]
    assert closed["changes"] == {"reports_0b0b0b": {"old": "lent", "new": "closed to logins"}}
    assert "closed: the instance is lent to it no more" in closed["comment"]
    assert "reports" not in path.read_text()
    assert "audit_0a0a0a" in path.read_text()


STATES = {
    "it serves it": ({}, None),
    "it serves another one": ({"serves": False}, "read"),
    "it does not run": ({"started": None, "serves": False}, None),
    "a dry run before it is written": ({"watch": True, "test": True}, "would"),
    "a dry run of a restart": ({"watch": True, "test": True, "restarted": True}, None),
    "a dry run of what runs otherwise": ({"serves": False, "test": True}, "would"),
}


@pytest.mark.parametrize("options, expected", STATES.values(), ids=STATES)
def test_a_certificate_is_served_without_a_restart(redis_instance, dunders, monkeypatch, options, expected):
    read, test = [], options.get("test", False)
    monkeypatch.setattr(redis_connection, "serves", lambda port, path: options.get("serves", True))
    monkeypatch.setattr(redis_connection, "read_certificate", lambda host, *arguments: read.append(arguments))
    monkeypatch.setattr(systemd, "started", lambda unit, among: options.get("started", 1))
    changes = {"x": 1} if options.get("restarted") else {}
    running = {"x": {"name": "redis-server@jobs", "changes": changes, "result": True}}
    dunders(redis_instance, salt={}, pillar={}, opts={"test": test}, running=running)
    dunders(redis_instance, context={}, instance_id="", lowstate=[])
    function = redis_instance.mod_watch if options.get("watch") else redis_instance.certificate_served
    state = function("jobs", 8199, "/a.pem")
    assert state["result"] is (None if expected == "would" else True)
    assert state["changes"] == ({"jobs": {"old": "another certificate", "new": "served"}} if expected else {})
    assert read == ([("jobs", 8199, "/a.pem")] if expected == "read" else [])
