"""Which journal entries are trusted."""

import json

import pytest

from saltern.system import journal

PARSED = {
    "text": ({"MESSAGE": "a"}, {"MESSAGE": "a"}),
    "bytes": ({"MESSAGE": [27, 91, 50, 74, 194, 155]}, {"MESSAGE": "\x1b[2J\x9b"}),
    "bytes that are no UTF-8": ({"MESSAGE": [97, 155]}, {"MESSAGE": "a\\x9b"}),
    "nothing": ({"MESSAGE": None}, {"MESSAGE": ""}),
    "two values": ({"SYSLOG_IDENTIFIER": ["a", [98, 7]]}, {"SYSLOG_IDENTIFIER": "a\nb\x07"}),
}


@pytest.mark.parametrize("entry, fields", PARSED.values(), ids=PARSED)
def test_an_entry_is_read_as_text(entry, fields):
    assert journal.parsed(json.dumps(entry)) == fields


@pytest.mark.parametrize("line", ["", "-- No entries --", "[1]", "{"])
def test_a_line_that_is_no_entry_is_skipped(line):
    assert journal.parsed(line) == {}


def test_a_user_is_an_apps_by_its_home():
    said = "faq:x:902:902::/srv/apps/faq:/bin/sh\nx:x:903:903::/srv/apps/faq:/bin/sh\nfaq2:x:0:0::/:/bin/sh\n\n"
    assert journal.users(said) == {"902": "faq"}


UNITS = {
    "app-tickets-web-1.v3.scope": ("tickets", "web.1"),
    "app-my\\x2dshop-big\\x2dworker-12.v30.scope": ("my-shop", "big-worker.12"),
    "app-tickets-release-0.v3.scope": ("tickets", "release"),
    "app-my\\x2dshop-sweep-night\\x2dsweep.1764454512345.v3.scope": ("my-shop", "night-sweep"),
    "app-tickets.slice": None,
    "session-3.scope": None,
    "app-tickets-web-1.v3.service": None,
    "": None,
}


@pytest.mark.parametrize("unit, process", UNITS.items())
def test_a_scope_belongs_to_one_process(unit, process):
    assert journal.scope_of(unit) == process


@pytest.fixture
def found(monkeypatch):
    """A function that finds the stream of v2's web.1 since 1000 in a journal with these entries."""

    def find(entries):
        def lines(run, matches, since=None, lines=None, grep=None, raw=False):
            uid = next(match.removeprefix("_UID=") for match in matches if match.startswith("_UID="))
            assert "SYSLOG_IDENTIFIER=tickets[web.1]" in matches
            those = [one for one in entries if one["_UID"] == uid and (not since or one["at"] >= int(since[1:]))]
            return those[-lines:] if lines else those

        monkeypatch.setattr(journal, "lines", lines)
        monkeypatch.setattr(journal, "users", lambda: {"901": "tickets", "902": "faq"})
        return journal.stream(None, "tickets", 2, "web.1", 1000.7, 800)

    return find


def start(uid, stream, at):
    return {"_UID": uid, "_STREAM_ID": stream, "at": at}


STREAMS = {
    "the first since then": ([start("0", "a", 900), start("0", "b", 1000), start("0", "c", 1001)], "b"),
    "the last before, where there is none since": ([start("0", "a", 900), start("0", "b", 950)], "b"),
    "root's, whatever the app's user says": ([start("901", "a", 1000), start("0", "b", 1001)], "b"),
    "the user's, where its launcher was the user's": ([start("901", "a", 1000)], "a"),
    "nobody else's": ([start("902", "a", 1000), start("1000", "b", 1000)], None),
    "none of an app that was removed, whose v2 was another one": ([start("0", "a", 799)], None),
    "none": ([], None),
}


@pytest.mark.parametrize("entries, stream", STREAMS.values(), ids=STREAMS)
def test_the_log_of_a_process_is_one_stream(found, entries, stream):
    assert found(entries) == stream


@pytest.mark.parametrize(
    "app, name", [("tickets", "tickets[web.1]"), ("gone", None)], ids=["its own", "of an app whose id the user has now"]
)
def test_a_line_is_not_taken_for_an_app_that_has_the_uid_now(app, name):
    entry = {"_UID": "901", "_SYSTEMD_UNIT": f"app-{app}-web-1.v1.scope", "SYSLOG_IDENTIFIER": f"{app}[web.1]"}
    found = journal.app_of(entry, {"901": "tickets"})
    assert (found and found["name"]) == name


def test_entries_are_lines_of_text_written_at_a_time():
    entries = [{"MESSAGE": "a\nb", "__REALTIME_TIMESTAMP": "1500000"}, {"MESSAGE": "c"}, {}]
    assert journal.texts(entries) == ["a", "b", "c", ""]
    assert [journal.written(entry) for entry in entries] == [1.5, 0, 0]
