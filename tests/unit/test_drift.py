"""Drift: one line tells the result of a dry run, with the states' IDs alone."""

import datetime
import json
import stat
import types

import pytest

from saltern.system import systemd

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC)


def state(number, name, result=True, changes=None):
    return {
        "__run_num__": number,
        "__id__": name,
        "result": result,
        "changes": changes or {},
        "comment": "canary",
    }


ANSWERS = {
    "nothing to do": ([state(0, "a"), state(1, "b")], 2, [], []),
    "in the order of the run": (
        [state(2, "c", None), state(0, "a", None), state(1, "b")],
        3,
        ["a", "c"],
        [],
    ),
    "changes that are sure": ([state(0, "a", True, {"diff": "canary"})], 1, ["a"], []),
    "a failure": ([state(0, "a", False, {"diff": "canary"}), state(1, "b", None)], 2, ["b"], ["a"]),
}


@pytest.mark.parametrize("states, count, would_change, failed", ANSWERS.values(), ids=ANSWERS)
def test_a_dry_run_is_told_by_ids_alone(drift, states, count, would_change, failed):
    answer = {f"x_|-{one['__id__']}": one for one in states}
    found = drift.summary(answer, {}, [], [], [])
    expected = {"busy": False, "states": count, "would_change": would_change, "failed": failed, "expiring": []}
    assert found == expected | {"restarting": [], "full": [], "jobs": []}


def test_mistakes_in_the_pillar_are_no_states(drift):
    found = drift.summary(["Pillar failed to render with the following messages:", "app.x: canary"], {}, [], [], [])
    nothing = {"would_change": [], "failed": [], "expiring": [], "restarting": [], "full": [], "jobs": []}
    assert found == {"busy": False, "states": 0} | nothing


def test_certificates_that_end_soon_are_told_with_the_day_and_full_storages_with_their_size(drift):
    expiring = {"/b.pem": "2026-02-03", "/a.pem": "2026-02-04"}
    full, jobs = ["storage media (2.0 MB of 1.0 MB)"], ["shop sweep: failed"]
    found = drift.summary({"x": state(0, "a")}, expiring, [], full, jobs)
    assert found["expiring"] == ["/a.pem on 2026-02-04", "/b.pem on 2026-02-03"]
    assert found["full"] == ["storage media (2.0 MB of 1.0 MB)"]
    assert found["jobs"] == ["shop sweep: failed"]


@pytest.mark.parametrize("running", [[["a converge"]], [[], ["a converge"]]], ids=["before", "after"])
def test_a_dry_run_that_meets_a_converge_says_nothing_else(drift, dunders, running):
    answer = {"x": state(0, "a", None)}
    salt = {"state.running": lambda: running.pop(0), "state.apply": lambda **_: answer}
    salt |= {"certificate.expiring": dict}
    dunders(drift, salt=salt)
    nothing = {"would_change": [], "failed": [], "expiring": [], "restarting": [], "full": [], "jobs": []}
    assert drift.states() == {"busy": True, "states": 0} | nothing


def answer(states=57, would_change=(), failed=(), busy=False, expiring=(), restarting=(), full=(), jobs=()):
    found = {"would_change": list(would_change), "failed": list(failed), "expiring": list(expiring)}
    found |= {"restarting": list(restarting), "full": list(full), "jobs": list(jobs)}
    return {"busy": busy, "states": states} | found


LINES = {
    "none": (answer(), "none", "nothing would change in 57 states"),
    "one": (answer(would_change=["a"]), "drift", "1 state would change: a"),
    "two": (answer(would_change=["b-1", "a"]), "drift", "2 states would change: b-1 a"),
    "a failure": (answer(failed=["a"]), "failed", "1 state failed: a"),
    "a certificate": (
        answer(expiring=["/a.pem on 2026-02-03"]),
        "failed",
        "1 certificate not renewed in time: /a.pem on 2026-02-03",
    ),
    "a service": (
        answer(restarting=["nginx.service (4 times, active)"]),
        "failed",
        "1 service ended again and again: nginx.service (4 times, active)",
    ),
    "a storage": (
        answer(full=["storage media (2.0 MB of 1.0 MB)"]),
        "failed",
        "1 quota exceeded: storage media (2.0 MB of 1.0 MB)",
    ),
    "jobs": (
        answer(jobs=["shop sweep: failed at 03:15, exit status 3", "shop mail: has not succeeded"]),
        "failed",
        "2 jobs failed or missed: shop sweep: failed at 03:15, exit status 3, shop mail: has not succeeded",
    ),
    "both": (answer(would_change=["a", "b"], failed=["c"]), "failed", "1 state failed: c; 2 states would change: a b"),
    "no state": (
        answer(states=0),
        "failed",
        "the dry run failed: no state was reached, the pillar or the states have a mistake; "
        "see salt-call state.apply test=True",
    ),
    "no answer": (
        "Salt gave no answer",
        "failed",
        "the dry run failed: Salt gave no answer; see salt-call state.apply test=True",
    ),
}


@pytest.mark.parametrize("said, result, line", LINES.values(), ids=LINES)
def test_what_was_found_is_one_line_and_a_result(drift_script, said, result, line):
    found = drift_script.status(said, NOW)
    assert (found["time"], found["result"]) == ("2026-01-02T03:04:05+00:00", result)
    assert drift_script.line(found) == line


@pytest.fixture
def asked(drift_script, monkeypatch):
    """``drift.asked`` with a fake clock and these answers; it returns its answer and how many it used."""

    def ask(*answers):
        given = iter(answers)
        used, clock = [], [0]
        monkeypatch.setattr(drift_script, "answered", lambda: used.append(next(given)) or used[-1])
        pause = types.SimpleNamespace(
            monotonic=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds)
        )
        monkeypatch.setattr(drift_script, "time", pause)
        return drift_script.asked(), len(used)

    return ask


def test_a_host_without_drift_is_asked_once(asked):
    assert asked(answer()) == (answer(), 1)


def test_drift_is_asked_twice_and_the_second_answer_counts(asked):
    assert asked(answer(would_change=["a", "b"]), answer(would_change=["a"])) == (answer(would_change=["a"]), 2)
    assert asked(answer(failed=["a"]), answer()) == (answer(), 2)
    assert asked("Salt gave no answer", answer()) == (answer(), 2)


def test_a_converge_is_waited_for(asked):
    busy = answer(0, busy=True)
    assert asked(busy, busy, answer(would_change=["a"]), busy, answer()) == (answer(), 5)


def test_a_converge_without_an_end_is_told(asked, drift_script):
    busy = [answer(0, busy=True)] * 1000
    assert asked(*busy) == ("a converge was under way for 30 minutes", drift_script.PATIENCE // drift_script.PAUSE)


OUTPUTS = {
    "an answer": ('{\n"local": {"busy": false}}', {"busy": False}),
    "an answer after a message": ('[WARNING] {x}\n{\n"local": {"busy": false}}', {"busy": False}),
    "a message": ('{\n"local": "canary"}', "Salt gave no answer"),
    "no JSON": ("Traceback: canary", "Salt gave no answer"),
    "nothing": ("", "Salt gave no answer"),
}


@pytest.mark.parametrize("output, found", OUTPUTS.values(), ids=OUTPUTS)
def test_what_salt_prints_is_read_or_not_repeated(drift_script, monkeypatch, tmp_path, output, found):
    command = tmp_path / "salt-call"
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    command.chmod(0o755)
    monkeypatch.setattr(drift_script, "COMMAND", (str(command),))
    assert drift_script.answered() == found


def test_a_salt_that_is_not_there_is_told(drift_script, monkeypatch, tmp_path):
    monkeypatch.setattr(drift_script, "COMMAND", (str(tmp_path / "absent"),))
    assert drift_script.answered() == "Salt gave no answer"


def test_the_status_is_a_file_that_everybody_may_read(drift_script, monkeypatch, tmp_path):
    path = tmp_path / "saltern/drift.json"
    monkeypatch.setattr(drift_script, "STATUS", str(path))
    for said in (answer(would_change=["a"]), answer()):
        found = drift_script.status(said, NOW)
        drift_script.record(found)
        assert json.loads(path.read_text()) == found
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert [one.name for one in path.parent.iterdir()] == ["drift.json"]


@pytest.fixture
def timer(drift_timer, dunders, monkeypatch, tmp_path):
    """``drift_timer.switched`` on a host with a timer in this state; what it does is recorded."""
    status = tmp_path / "drift.json"

    def run(enabled, running, test=False, works=True):
        done, functions = [], {}
        monkeypatch.setattr(systemd, "is_switched", lambda name, on, among: running == on)
        for word in ("start", "stop", "enable", "disable"):
            functions[f"service.{word}"] = lambda name, word=word: done.append(f"{word} {name}") or works
        dunders(drift_timer, salt=functions, opts={"test": test}, context={}, instance_id="", lowstate=[], running={})
        return drift_timer.switched("saltern-drift.timer", enabled, str(status)), done

    return run, status


SWITCHES = {
    "on": (True, False, ["enable saltern-drift.timer", "start saltern-drift.timer"]),
    # The service's run is stopped too, or it would still write its status.
    "off": (False, True, ["stop saltern-drift.timer", "disable saltern-drift.timer", "stop saltern-drift.service"]),
    "on already": (True, True, []),
    "off already": (False, False, []),
}


@pytest.mark.parametrize("enabled, running, expected", SWITCHES.values(), ids=SWITCHES)
def test_the_timer_is_switched(timer, enabled, running, expected):
    run, _ = timer
    dry, done = run(enabled, running, test=True)
    assert done == []
    state, done = run(enabled, running)
    assert done == expected
    assert state["result"] is True
    assert dry["result"] is (None if expected else True)
    assert state["changes"] == dry["changes"]
    assert bool(state["changes"]) == bool(expected)


def test_a_status_file_is_removed_with_the_timer(timer):
    run, status = timer
    status.write_text("{}")
    assert run(True, True)[0]["changes"] == {}
    assert run(False, False, test=True)[0]["changes"] == {str(status): {"old": "present", "new": None}}
    assert status.exists()
    assert run(False, False)[1] == ["stop saltern-drift.service"]
    status.write_text("{}")
    assert run(False, True)[0]["changes"].keys() == {"saltern-drift.timer", str(status)}
    assert not status.exists()
    assert run(False, False)[0]["changes"] == {}


def test_a_timer_that_does_not_start_is_told(timer):
    run, _ = timer
    state, done = run(True, False, works=False)
    assert (state["result"], state["changes"], done) == (False, {}, ["enable saltern-drift.timer"])
    assert state["comment"] == "saltern-drift.timer: systemctl enable fails"
