"""Redis instances that no app attaches any more."""

import pytest


@pytest.fixture
def retired(redis_instance, dunders, tmp_path):
    """``redis_instance.retired`` on a directory with two instances of ours and Debian's own; what it asks is noted."""
    for name in ("jobs", "shop"):
        (tmp_path / f"redis-{name}.conf").write_text(f"# The instance {name}. Managed by Saltern (formula redis).\n")
    (tmp_path / "redis.conf").write_text("port 6379\n")
    (tmp_path / "redis-by-hand.conf").write_text("port 6380\n")
    asked = []

    def run(*instances, test=False, stops=True):
        asked.clear()
        functions = {
            f"service.{word}": lambda unit, word=word: asked.append((word, unit)) or stops
            for word in ("stop", "disable")
        }
        dunders(redis_instance, salt=functions, opts={"test": test})
        state = redis_instance.retired(str(tmp_path), list(instances))
        return state, asked, sorted(path.name for path in tmp_path.iterdir())

    return run


ALL = ["redis-by-hand.conf", "redis-jobs.conf", "redis-shop.conf", "redis.conf"]


def test_an_instance_that_is_attached_is_left_alone(retired):
    state, asked, files = retired("shop", "jobs")
    assert (state["result"], state["changes"], asked, files) == (True, {}, [], ALL)


def test_an_instance_that_is_attached_no_more_is_stopped_and_forgotten(retired):
    state, asked, files = retired("shop")
    assert (state["result"], state["changes"]) == (True, {"jobs": {"old": "present", "new": None}})
    assert asked == [("stop", "redis-server@jobs"), ("disable", "redis-server@jobs")]
    assert files == [name for name in ALL if name != "redis-jobs.conf"]
    assert retired("shop")[0]["changes"] == {}


def test_a_dry_run_says_what_would_be_stopped_and_stops_nothing(retired):
    state, asked, files = retired("shop", test=True)
    assert (state["result"], state["changes"]) == (None, {"jobs": {"old": "present", "new": None}})
    assert (asked, files) == ([], ALL)


def test_an_instance_that_does_not_stop_is_told_and_tried_again(retired):
    state, _, files = retired("shop", stops=False)
    assert (state["result"], state["changes"], files) == (False, {}, ALL)
    assert state["comment"] == "redis-server@jobs does not stop; see systemctl status redis-server@jobs"
    assert retired("shop")[0]["result"] is True
