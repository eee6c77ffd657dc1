"""How results are laid out for people."""

import re

import pytest

ROWS = [
    {"release": "v2", "state": "serving", "reason": ""},
    {"release": "v1", "state": "refused", "reason": "a" * 60 + "\nb"},
]

TABLES = {
    "rows": (ROWS, ["    release  state    reason", "    v2       serving", f"    v1       refused  {'a' * 60} b"]),
    "a column without a value": (ROWS[:1], ["    release  state", "    v2       serving"]),
    "no row": ([], ["    none"]),
}


@pytest.mark.parametrize("rows, lines", TABLES.values(), ids=TABLES)
def test_rows_are_a_table_in_their_order_and_whole(rows_outputter, rows, lines):
    assert rows_outputter.lines(rows) == lines


@pytest.mark.parametrize("value", ["an error", {"a": 1}, [1], None])
def test_a_value_that_is_no_rows_is_no_table(rows_outputter, value):
    assert not rows_outputter.is_table(value)


def state(number, warnings=None, **fields):
    ret = {"__run_num__": number, "__id__": f"state-{number}", "result": True, "changes": {}, "comment": ""}
    return ret | fields | ({"warnings": warnings} if warnings else {})


ORCHESTRATED = {"ret": {"app1": {"a": state(0, ["is held"])}, "app2": {"a": state(0, ["is held"])}}, "out": "highstate"}
NOTED = {
    "of no state": ({"local": {"a": state(0)}}, []),
    "of a state that changed nothing": ({"local": {"a": state(0), "b": state(1, ["one", "two"])}}, ["one", "two"]),
    "of two states, the same": ({"local": {"a": state(0, ["one"]), "b": state(1, ["one"])}}, ["one"]),
    "of hosts": (
        {"master_master": {"a": state(0, changes=ORCHESTRATED)}, "retcode": 0},
        ["app1: is held", "app2: is held"],
    ),
    "of what did not compile": ({"local": ["a mistake"]}, []),
}


@pytest.mark.parametrize("data, notes", NOTED.values(), ids=NOTED)
def test_what_an_operator_must_know_is_found(highstate_outputter, data, notes):
    assert highstate_outputter.noted(data) == notes


OPTIONS = [
    {},
    {"state_verbose": False},
    {"state_output": "terse"},
    {"state_output": "filter"},
    {"state_output": "mixed_id"},
]
OPTIONS += [{"state_output_diff": True}, {"state_compress_ids": True}, {"state_tabular": "{1}"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_no_option_hides_what_an_operator_must_know(highstate_outputter, dunders, options):
    dunders(highstate_outputter, opts={"color": False} | options)
    states = {
        "m_|-a_|-a_|-f": state(0, ["tickets is held"]),
        "m_|-b_|-b_|-f": state(1, result=False, comment="\x1b[2J"),
    }
    shown = highstate_outputter.output({"local": states})
    assert "note: tickets is held" in shown.splitlines()
    assert re.search("Failed: +1$", shown, re.MULTILINE)
    assert "\x1b" not in shown
