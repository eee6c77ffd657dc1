"""The lines that make logs shows, and whose they are."""

import types

import pytest

from lab import journal
from lab.podman import LabError

PASSWD = "root:x:0:0::/root:/bin/sh\ntickets:x:901:901::/srv/apps/tickets:/bin/sh\nfaq:x:902:902::/srv/apps/faq:\n"
# The lines of supervisor's configuration that name the apps' processes.
PROGRAMS = "[program:faq.v1.web.1]\n[program:tickets.v3.web.1]\n[program:tickets.v3.web.2]\n"
PROGRAMS += "[program:tickets.v3.worker.1]\n"


def entry(name, uid, text, **fields):
    at = str(1_767_323_045_000_000)
    return {"SYSLOG_IDENTIFIER": name, "_UID": uid, "MESSAGE": text, "__REALTIME_TIMESTAMP": at} | fields


SUPERVISOR_UNIT = {"_SYSTEMD_UNIT": "supervisor.service"}
WORKER = {"_SYSTEMD_UNIT": "app-tickets-worker-1.v3.scope"}
ENTRIES = [
    entry("tickets[web.1]", "901", "one"),
    entry("tickets[web.12]", "901", "two"),
    entry("tickets[worker.1]", "901", "faq[web.1] three"),
    entry("faq[web.1]", "902", "four"),
    entry("faq[release]", "902", "five"),
    entry("supervisord", "0", "six", **SUPERVISOR_UNIT),
    # Written under foreign names.
    entry("faq[web.1]", "901", "seven"),
    entry("supervisord", "901", "eight", **SUPERVISOR_UNIT),
    entry("tickets[web.1]", "1000", "nine"),
    entry("tickets[contract]", "901", "ten"),
    entry("tickets[contract]", "0", "eleven"),
    entry("tickets[web.1]", "901", "twelve", **WORKER),
    entry("sshd", "0", "thirteen"),
]
RUN = {"_SYSTEMD_UNIT": "app-tickets-sweep-nightly.1764454512345.v3.scope", "_STREAM_ID": "61"}


@pytest.fixture
def reader():
    """A function that returns a reader of the journal of a host with the apps tickets and faq."""

    def read(app=None, process=None):
        host = types.SimpleNamespace(id="dev", run=lambda *argv: types.SimpleNamespace(stdout=PASSWD))
        return journal.Reader(host, journal.Wanted(app, process))

    return read


@pytest.mark.parametrize(
    ("app", "process", "shown"),
    [
        (None, None, ["one", "two", "three", "four", "five", "six", "seven", "eight", "ten", "eleven", "twelve"]),
        ("tickets", None, ["one", "two", "three", "seven", "eight", "ten", "eleven", "twelve"]),
        ("tickets", "web", ["one", "two"]),
        ("tickets", "web.1", ["one"]),
        ("tickets", "worker", ["three", "twelve"]),
        ("tickets", "contract", ["eleven"]),
        (None, "web", ["one", "two", "four"]),
        ("faq", "release", ["five"]),
        ("ticket", None, []),
    ],
)
def test_logs_are_filtered_by_who_wrote_a_line(reader, app, process, shown):
    it = reader(app, process)
    assert [line.split()[-1] for one in ENTRIES for _, line in it.lines(one)] == shown


def test_a_line_under_a_name_that_is_not_its_own_says_whose_it_is(reader):
    it = reader()
    lines = {
        line.split()[-1]: line.partition(" dev ")[2].rpartition(":")[0] for e in ENTRIES for _, line in it.lines(e)
    }
    assert lines["seven"] == "tickets (as faq[web.1])"
    assert lines["eight"] == "tickets (as supervisord)"
    assert lines["ten"] == "tickets (as tickets[contract])"
    assert lines["twelve"] == "tickets[worker.1] (as tickets[web.1])"


def test_only_a_stream_that_root_began_belongs_to_a_process(reader):
    it = reader("tickets", "web.1")
    stream = {"_STREAM_ID": "5f"}
    said = [
        *it.lines(entry("tickets[web.1]", "0", "v2 web.1 starts on port 8101", **stream)),
        *it.lines(entry("tickets[web.1]", "901", "true", **stream)),
        *it.lines(entry("tickets[web.1]", "901", "false", _STREAM_ID="60")),
        *it.lines(entry("tickets[web.1]", "902", "false", **stream)),
    ]
    assert [line.split()[-1] for _, line in said] == ["8101", "true"]


def test_the_lines_of_a_job_are_those_of_its_runs_and_of_its_runner(reader):
    said = [
        entry("tickets[nightly]", "0", "v3 nightly.1764454512345 starts", _STREAM_ID="61"),
        entry("tickets[nightly]", "901", "one", **RUN),
        entry("tickets[nightly]", "901", "forged", **WORKER),
        entry("tickets[nightly]", "0", "v3 nightly.1764454512345 succeeded"),
    ]
    it = reader("tickets", "nightly")
    assert [line.split()[-1] for one in said for _, line in it.lines(one)] == ["starts", "one", "succeeded"]


def test_a_job_is_asked_for_by_its_name_however_many_runs_it_has_had(dev, monkeypatch):
    scopes = [f"app-tickets-sweep-nightly.{number}.v3.scope" for number in range(1764454512345, 1764454512945)]
    fields = {"SYSLOG_IDENTIFIER": "tickets[nightly]\ntickets[web.1]", "_SYSTEMD_UNIT": "\n".join(scopes)}
    monkeypatch.setattr(journal.Reader, "values", lambda self, field: fields[field].splitlines())
    for wanted in (journal.Wanted(), journal.Wanted("tickets", "nightly")):
        matches = journal.Reader(dev, wanted).matches()
        assert len(matches) < 30
        assert matches[-5:-3] == ["_UID=901", "SYSLOG_IDENTIFIER=tickets[nightly]"] or wanted.all


def test_no_line_of_a_process_commands_a_terminal_or_is_taken_for_two(reader):
    text = "\x1b[2J\x9b31m \u202e\x7f\tend\r\n2026-01-02T03:04:05+0000 dev faq[web.1]: forged"
    lines = [line.partition(" dev ")[2] for _, line in reader().lines(entry("tickets[web.1]", "901", text))]
    assert lines == [
        "tickets[web.1]: \\x1b[2J\\x9b31m \\u202e\\x7f\tend\\x0d",
        "tickets[web.1]: 2026-01-02T03:04:05+0000 dev faq[web.1]: forged",
    ]


@pytest.mark.parametrize(("app", "process"), [("a b", None), ("Tickets", None), (None, "web.x"), (None, ".*")])
def test_a_filter_that_is_no_name_is_refused(app, process):
    with pytest.raises(LabError, match="expected one such as"):
        journal.Wanted(app, process)


@pytest.fixture
def dev():
    """A host with the apps tickets and faq and an empty journal."""

    def run(*argv, check=True):
        return types.SimpleNamespace(stdout={"getent": PASSWD, "grep": PROGRAMS}.get(argv[0], ""))

    return types.SimpleNamespace(id="dev", name="dev", run=run)


REFUSED = {
    ("tickets", "nosuch"): "'nosuch' is no process of tickets; expected one of web, web.1, web.2, worker, worker.1",
    ("tickets", "web.3"): "'web.3' is no process of tickets; expected one of web, web.1, web.2, worker, worker.1",
    ("faq", "worker"): "'worker' is no process of faq; expected one of web, web.1",
    (None, "nosuch"): "'nosuch' is no process of these apps; expected one of web, web.1, web.2, worker, worker.1",
}


@pytest.mark.parametrize(("app", "process"), REFUSED)
def test_a_process_that_no_app_has_is_refused_with_those_it_has(dev, app, process):
    with pytest.raises(LabError) as refused:
        journal.show([dev], journal.Wanted(app, process), follow=False)
    assert str(refused.value) == f"PROCESS: {REFUSED[app, process]}"


def test_a_process_of_an_app_that_runs_none_is_refused(dev, monkeypatch):
    monkeypatch.setitem(globals(), "PROGRAMS", "")
    with pytest.raises(LabError, match=r"'web' is no process of faq; expected none: faq runs none$"):
        journal.show([dev], journal.Wanted("faq", "web"), follow=False)


@pytest.mark.parametrize("process", ["web", "web.1", "release", "contract"])
def test_a_process_without_a_line_so_far_is_told_and_not_refused(dev, capsys, process):
    journal.show([dev], journal.Wanted("faq", process), follow=False)
    assert capsys.readouterr() == (
        "",
        f"lab: no line of faq {process} so far; make logs FOLLOW=0 shows those of all\n",
    )
