"""A step of a service: its class compares and acts, and the state reports."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern import services
from saltern.services.steps import Step

from .conftest import module

resource = module("salt/_states/resource.py")
CHANGES = {"shop": {"old": None, "new": "made"}}


@pytest.fixture
def stepped(resource, dunders, monkeypatch):
    """A function that runs the state for a step of PostgreSQL, and returns its answer, what was done and the run."""

    def run(changes=(), failure="", dry=False, running=()):
        acts, seen = [], []

        def act():
            if failure:
                raise CommandExecutionError(failure)
            acts.append("acted")

        def work(run, name):
            seen.append(run)
            return Step(f"{name} is as declared", dict(changes), act)

        monkeypatch.setattr(type(services.formulas()["postgres"]), "steps", lambda self: {"logins": work})
        opts = {"test": dry, "id": "one", "conf_file": "/etc/salt/minion"}
        dunders(resource, salt={}, pillar={"hosts": {}}, opts=opts, running=dict(running))
        return resource.done("shop", "postgres", "logins"), acts, seen[0]

    return run


def test_a_step_with_nothing_to_do_changes_nothing(stepped):
    ret, acts, _ = stepped()
    assert (ret["result"], ret["changes"], ret["comment"], acts) == (True, {}, "shop is as declared", [])


def test_a_dry_run_tells_the_changes_of_the_run_and_does_not_act(stepped):
    dry, acts, _ = stepped(CHANGES, dry=True)
    assert (dry["result"], dry["changes"], acts) == (None, CHANGES, [])
    ret, acts, _ = stepped(CHANGES)
    assert (ret["result"], ret["changes"], acts) == (True, CHANGES, ["acted"])


def test_a_step_that_fails_says_why_and_has_changed_nothing(stepped):
    ret, acts, _ = stepped(CHANGES, failure="shop: does not answer")
    assert (ret["result"], ret["changes"], ret["comment"], acts) == (False, {}, "shop: does not answer", [])


def test_a_step_knows_what_its_run_has_changed_and_who_stays(stepped):
    running = {
        "file_|-config_|-/etc/x_|-managed": {"name": "/etc/x", "changes": {"diff": "-"}, "result": None},
        "file_|-other_|-/etc/y_|-managed": {"name": "/etc/y", "changes": {}, "result": True},
        "release_|-app_|-faq_|-current": {"name": "faq", "changes": {}, "result": False},
    }
    *_, run = stepped(running=running)
    assert (run.changed("/etc/x"), run.changed("/etc/y"), run.staying) == (True, False, ["faq"])
