"""How processes end, and what is reported of it."""

import pytest

from saltern.host import Host
from saltern.releases import ends, store, supervisor
from saltern.system import journal


@pytest.mark.parametrize(
    "code, said", [(1, "exit status 1"), (-9, "was killed by SIGKILL"), (-15, "was killed by SIGTERM")]
)
def test_an_end_is_described_in_words(code, said):
    assert ends.ending(code) == said


def up(seconds):
    return {"state": "RUNNING", "pid": 7, "up": seconds, "exit": ""}


ENDS = ["faq.v1.web.1 (exit status 1; not expected)"] * 3


@pytest.mark.parametrize(
    "times, info, said",
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
def test_a_process_that_keeps_dying_is_found(times, info, said):
    assert ends.died(times, info) == said


def test_a_process_that_was_killed_is_named():
    lines = [
        "v1 web.2 had not ended within 5 s, killed: 77 (uvicorn)",
        "v1 web.1 had not ended within 5 s, killed: 78 (uvicorn), 79 (python)",
        "v1 web.3 ends",
    ]
    assert ends.killed_in(lines, "shop") == (
        "web.1 was killed after 5 s (app.shop.grace.web); web.2 was killed after 5 s (app.shop.grace.web)"
    )
    assert ends.killed_in(lines[2:], "shop") == ""


class Ended(BaseException):
    """What the handler of salt-call raises; see bootstrap.sh."""

    code = 143


@pytest.mark.parametrize(
    "error, name",
    [
        (Ended(), "SIGTERM"),
        (SystemExit(143), "SIGTERM"),
        (SystemExit(129), "SIGHUP"),
        (KeyboardInterrupt(), "SIGINT"),
        (KeyError("a mistake of ours"), "KeyError"),
        (SystemExit(0), "a signal"),
        (SystemExit(None), "a signal"),
        (SystemExit("text"), "a signal"),
    ],
)
def test_the_signal_that_ended_a_run_is_named(error, name):
    assert ends.ended_by(error) == name


OUT_OF_MEMORY = "exit status 137, out of memory: the kernel has ended 1 of its processes"


@pytest.mark.parametrize(
    "told, end", [([f"v3 web.1 has ended: {OUT_OF_MEMORY}"], f": {OUT_OF_MEMORY}"), ([], "")], ids=["told", "not told"]
)
def test_why_a_process_keeps_dying_is_told_in_its_launchers_words(monkeypatch, told, end):
    asked = []

    def lines(run, matches, **options):
        asked.append((matches, options["grep"]))
        ends = ["INFO exited: shop.v3.web.1 (exit status 137; not expected)"] * 3
        return [{"MESSAGE": text} for text in (ends if "SYSLOG_IDENTIFIER=supervisord" in matches else told)]

    monkeypatch.setattr(supervisor, "info", lambda app, number: {"shop.v3.web.1": {"up": 3}})
    monkeypatch.setattr(store, "created", lambda app, number: 0)
    monkeypatch.setattr(journal, "lines", lines)
    begins = "shop.v3.web.1 ended 3 times in the last 10 minutes, at last with exit status 137"
    assert ends.dying(Host.of({}, {}, {}), "shop", 3, {}) == [begins + end]
    assert asked[1] == (["SYSLOG_IDENTIFIER=shop[web.1]", "_UID=0"], "^v3 web.1 has ended: ")


@pytest.mark.parametrize("created, count", [(1000, 4), (1001.5, 3), (1004, 0)], ids=["its own", "one before", "all"])
def test_ends_of_an_earlier_release_of_the_same_number_are_not_this_ones(monkeypatch, created, count):
    said = "INFO exited: shop.v1.web.1 (exit status 1; not expected)"
    times = [1_001_000_000, 1_002_000_000, 1_003_000_000, 1_003_500_000]

    def lines(run, matches, **options):
        if "SYSLOG_IDENTIFIER=supervisord" not in matches:
            return []
        return [{"MESSAGE": said, "__REALTIME_TIMESTAMP": str(time)} for time in times]

    monkeypatch.setattr(supervisor, "info", lambda app, number: {"shop.v1.web.1": {"up": 3}})
    monkeypatch.setattr(store, "created", lambda app, number: created)
    monkeypatch.setattr(journal, "lines", lines)
    ended = f"shop.v1.web.1 ended {count} times in the last 10 minutes, at last with exit status 1"
    assert ends.dying(Host.of({}, {}, {}), "shop", 1, {}) == ([ended] if count else [])


def test_the_journal_is_not_asked_about_processes_that_have_been_up_for_long(monkeypatch):
    monkeypatch.setattr(supervisor, "info", lambda app, number: {"shop.v1.web.1": up(500), "shop.v1.web.2": up(120)})
    monkeypatch.setattr(journal, "lines", None)
    assert ends.dying(Host.of({}, {}, {}), "shop", 1, {}) == []
