"""Redis instances that no app attaches any more, and whose the data is that they leave."""

import datetime
import json

import pytest

CONFIG = "# The instance {0}, which belongs to the app {0}-app. Managed by Saltern (formula redis).\n{1}\n"


@pytest.fixture
def directory(tmp_path, redis_instance, monkeypatch):
    """A directory with the configuration of two instances of ours, of Debian's own and of somebody else's."""
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(redis_instance, "DATA", str(tmp_path / "data"))
    # One of them from before there was TLS.
    for name, port in (("jobs", "port 0\ntls-port 8199"), ("shop", "port 8299")):
        (tmp_path / f"redis-{name}.conf").write_text(CONFIG.format(name, port))
    (tmp_path / "redis.conf").write_text("port 6379\n")
    (tmp_path / "redis-by-hand.conf").write_text("port 6380\n")
    return tmp_path


@pytest.fixture
def run(redis_instance, dunders, directory):
    """A function that runs a state; it returns the answer, what was asked of systemd, and what is there."""

    def run(function, *arguments, test=False, stops=True, users=(), remote=()):
        asked = []
        functions = {
            f"service.{word}": lambda unit, word=word: asked.append((word, unit)) or stops
            for word in ("stop", "disable")
        }
        functions["attachment.users"] = lambda kind, port: list(users)
        functions["redis_connection.remote"] = {8199: list(remote), 8299: []}.get
        dunders(redis_instance, salt=functions, opts={"test": test})
        state = getattr(redis_instance, function)(*arguments)
        return state, asked, sorted(path.name for path in directory.glob("*.conf"))

    return run


@pytest.fixture
def retired(run, directory):
    """``redis_instance.retired`` with the instances that are attached."""
    return lambda *instances, **options: run("retired", str(directory), list(instances), **options)


ALL = ["redis-by-hand.conf", "redis-jobs.conf", "redis-shop.conf", "redis.conf"]
WITHOUT_JOBS = [name for name in ALL if name != "redis-jobs.conf"]
STOPPED = [("stop", "redis-server@jobs"), ("disable", "redis-server@jobs")]
JOBS_GOES = {"jobs": {"old": "present", "new": None}}


def test_an_instance_that_is_attached_is_left_alone(retired):
    state, asked, files = retired("shop", "jobs")
    assert (state["result"], state["changes"], asked, files) == (True, {}, [], ALL)


def test_an_instance_that_is_attached_no_more_is_stopped_and_its_data_marked(retired, directory):
    state, asked, files = retired("shop")
    assert (state["result"], state["changes"]) == (True, JOBS_GOES)
    assert (asked, files) == (STOPPED, WITHOUT_JOBS)
    (mark,) = (directory / "data").iterdir()
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


def test_data_that_was_kept_is_the_apps_again(run, directory):
    mark = directory / "data/cache.kept"
    mark.write_text('{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}')
    arguments = ("attached", "cache", "shop", str(directory))
    expected = {"cache": {"old": "kept", "new": "attached"}}
    dry = run(*arguments, test=True)[0]
    assert (dry["result"], dry["changes"], mark.exists()) == (None, expected, True)
    state = run(*arguments)[0]
    assert (state["result"], state["changes"], mark.exists()) == (True, expected, False)
    assert run(*arguments)[0]["changes"] == {}


def test_the_data_of_another_app_is_not_given_away(run, directory):
    mark = directory / "data/cache.kept"
    mark.write_text('{"app": "shop", "since": "2026-01-02T03:04:05+00:00"}')
    for name, app, owner in (("cache", "faq", "shop"), ("jobs", "faq", "jobs-app")):
        state = run("attached", name, app, str(directory))[0]
        assert (state["result"], state["changes"]) == (False, {})
        assert state["comment"].startswith(f"app.faq.attach: the Redis instance {name} holds the data of {owner}; ")
    assert mark.exists()


def test_an_instance_that_is_new_or_its_own_has_nothing_to_do(run, directory):
    for name, app in (("new", "faq"), ("jobs", "jobs-app")):
        state = run("attached", name, app, str(directory))[0]
        assert (state["result"], state["changes"]) == (True, {})
