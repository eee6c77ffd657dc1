"""What is noted of runs."""

import json

import pytest

from saltern.jobs import record


def run(number, status="succeeded", started=0.0, **more):
    return {"run": str(number), "status": status, "started": started or float(number)} | more


def test_a_run_is_noted_in_the_place_of_what_was_noted_of_it(tmp_path):
    root = str(tmp_path)
    record.note("shop", "sweep", run(1, "running"), root)
    record.note("shop", "sweep", run(2, "running"), root)
    record.note("shop", "sweep", run(1, "failed", reason="exit status 1"), root)
    assert [(one["run"], one["status"]) for one in record.runs("shop", "sweep", root)] == [
        ("1", "failed"),
        ("2", "running"),
    ]
    assert record.of("shop", "sweep", "1", root)["reason"] == "exit status 1"
    assert record.of("shop", "sweep", "3", root) is None
    assert (tmp_path / "shop/sweep.json").stat().st_mode & 0o777 == 0o600


def test_the_last_success_stays_however_many_runs_fail(tmp_path):
    root = str(tmp_path)
    record.note("shop", "sweep", run(1), root)
    for number in range(2, record.KEPT + 20):
        record.note("shop", "sweep", run(number, "failed"), root)
    found = record.runs("shop", "sweep", root)
    assert found[0]["run"] == "1"
    assert found[-1]["run"] == str(record.KEPT + 19)
    assert len(found) <= record.KEPT + 1


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '[1, {"run": "1"}]', "null"])
def test_what_is_no_record_has_no_runs(text):
    assert record.parsed(text) == []
    assert record.mapping(text) == {}


MERGED = {
    "the first": (None, run(5, ended=6.0), "5", 6.0),
    "a later failure keeps the success": ({"run": run(5), "success": 6.0}, run(7, "failed", ended=8.0), "7", 6.0),
    "a run that began earlier and ended later": ({"run": run(7), "success": 7.5}, run(5, ended=9.0), "7", 9.0),
    "what is no summary": ("nonsense", run(5, ended=6.0), "5", 6.0),
}


@pytest.mark.parametrize("before, new, newest, success", MERGED.values(), ids=MERGED)
def test_all_hosts_know_the_last_run_and_the_last_success(before, new, newest, success):
    text = before if before is None or isinstance(before, str) else json.dumps(before)
    found = record.mapping(record.merged(text, new))
    assert (found["run"]["run"], found["success"]) == (newest, success)
