"""The states of jobs."""

from saltern.apps import removal
from saltern.jobs import units


def test_jobs_that_are_gone_are_removed_and_those_of_an_app_that_is_gone_go_with_it(job_states, dunders, monkeypatch):
    removed = []
    there = {("shop", "sweep"), ("shop", "mail"), ("old", "sweep"), ("left", "sweep")}
    monkeypatch.setattr(units, "there", lambda: there)
    monkeypatch.setattr(units, "remove", removed.extend)
    monkeypatch.setattr(removal, "gone", lambda apps: ["old"])
    for is_dry in (True, False):
        dunders(job_states, opts={"test": is_dry}, pillar={"app": {"shop": {"jobs": {"sweep": {}}}}})
        ret = job_states.retired("jobs")
        assert ret["result"] is (None if is_dry else True)
        assert ret["changes"].keys() == {"saltern-job-shop.mail", "saltern-job-left.sweep"}
    assert removed == [("left", "sweep"), ("shop", "mail")]


def test_a_host_with_the_declared_jobs_is_left_alone(job_states, dunders, monkeypatch):
    monkeypatch.setattr(units, "there", lambda: {("shop", "sweep")})
    dunders(job_states, opts={"test": False}, pillar={"app": {"shop": {"jobs": {"sweep": {}}}}})
    ret = job_states.retired("jobs")
    assert (ret["result"], ret["changes"]) == (True, {})
