"""Whether hosts are ready, and what is told of them."""

import pytest
from salt.exceptions import CommandExecutionError

from saltern.fleet import minions


@pytest.mark.parametrize(
    "answers, comment",
    [
        ({}, "All 2 answer"),
        ({"saltutil.sync_all": {"app1": {}}}, "app2: did not take modules and pillar within 120 s; nothing else was"),
        ({"saltutil.refresh_pillar": {"app2": True, "app1": False}}, "app1: did not take modules and pillar"),
        ({"pillar.get": {"app1": []}}, "app2: did not take modules and pillar"),
        (
            {"pillar.get": {"app1": [], "app2": ["certificates: missing"]}},
            "app2: certificates: missing\nNothing else was touched",
        ),
    ],
)
def test_hosts_are_ready_that_have_modules_and_a_pillar_without_mistakes(
    fleet_states, dunders, monkeypatch, answers, comment
):
    whole = {"saltutil.sync_all": {}, "saltutil.refresh_pillar": True, "pillar.get": []}
    whole = {name: {"app1": answer, "app2": answer} for name, answer in whole.items()} | answers
    whole["test.ping"] = {"app1": True, "app2": True}
    monkeypatch.setattr(minions, "ask", lambda options, hosts, name, *_, **__: whole[name])
    dunders(fleet_states, opts={"test": False})
    found = fleet_states.ready("hosts", ["app1", "app2"])
    assert (found["result"], found["comment"][: len(comment)]) == (not answers, comment)


@pytest.mark.parametrize("state", ["ready", "stopped", "rebooted"])
def test_a_master_that_does_not_run_is_no_traceback(fleet_states, dunders, monkeypatch, state):
    def ask(*_, **__):
        raise CommandExecutionError("The master does not run here")

    monkeypatch.setattr(minions, "ask", ask)
    dunders(fleet_states, opts={"test": False})
    found = getattr(fleet_states, state)("hosts", ["app1"])
    assert (found["result"], found["comment"].partition("\n")[0]) == (False, "The master does not run here")


def test_what_must_be_known_of_minions_is_told_by_their_names(fleet_states, notes, dunders, monkeypatch, capsys):
    answers = {"app1": ["a is held", "b is held"], "app2": "'notes.of_host' is not available.", "app3": []}
    dunders(notes, opts={})
    monkeypatch.setattr(minions, "ask", lambda options, hosts, function: answers)
    dunders(fleet_states, salt={"notes.tell": notes.tell}, opts={})
    ret = fleet_states.noted("x", ["app1", "app2", "app3", "app4"])
    assert (ret["result"], ret["changes"], ret["warnings"]) == (True, {}, ["app1: a is held", "app1: b is held"])
    assert capsys.readouterr().err == "note: app1: a is held\nnote: app1: b is held\n"
