"""What a terminal shows while a converge runs."""

import io
import logging

import pytest

BEGINS, ENDS = "Running state [%s] at time %s", "Completed state [%s] at time %s (duration_in_ms=%s)"
EXECUTES = "Executing state %s.%s for [%s]"


@pytest.fixture
def progress(progress_handler):
    """A log handler that writes into a string."""
    return progress_handler.Progress(io.StringIO())


def logged(progress, message, *arguments, name="salt.state"):
    """Log a message as Salt does; return what the terminal got."""
    progress.stream.truncate(0)
    progress.stream.seek(0)
    progress.handle(logging.LogRecord(name, logging.INFO, "", 0, message, arguments, None))
    return progress.stream.getvalue()


def test_the_state_that_is_under_way_is_told_and_gone_when_it_has_ended(progress):
    assert logged(progress, BEGINS, "base-packages", "20:00") == "\r\x1b[K   0 s  state 1: base-packages"
    assert logged(progress, EXECUTES, "pkg", "installed", "x") == "\r\x1b[K   0 s  state 1: pkg.installed x"
    assert logged(progress, ENDS, "x", "20:00", 1.0) == "\r\x1b[K"
    assert logged(progress, BEGINS, "nginx", "20:00").endswith("state 2: nginx")
    assert logged(progress, BEGINS, "nginx", "20:00", name="salt.loaded") == ""
    assert logged(progress, "another") == ""


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\x9b", "\u202e"])
def test_a_name_commands_no_terminal(progress_handler, name):
    assert progress_handler.line(1, 0, "f", name, 80).isprintable()


def test_a_line_fits_into_the_terminal(progress_handler):
    assert len(progress_handler.line(1, 0, "file.managed", "x" * 300, 40)) == 39


def test_a_terminal_that_has_gone_ends_nothing(progress_handler):
    progress = progress_handler.Progress(io.StringIO())
    progress.stream.close()
    for _ in range(2):
        progress.handle(logging.LogRecord("salt.state", logging.INFO, "", 0, BEGINS, ("a", "b"), None))


@pytest.mark.parametrize(
    "command, is_terminal, term, is_there",
    [
        ("salt-call", True, "xterm", True),
        ("salt-call", False, "xterm", False),
        ("salt-call", True, "dumb", False),
        ("salt-minion", True, "xterm", False),
    ],
)
def test_it_is_there_where_somebody_waits_at_a_terminal(
    progress_handler, monkeypatch, command, is_terminal, term, is_there
):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr("sys.argv", [f"/opt/saltern/current/bin/{command}"])
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", term)
    before = logging.getLogger("salt.state").level
    found = progress_handler.setup_handlers()
    logging.getLogger("salt.state").setLevel(before)
    assert isinstance(found, progress_handler.Progress) is is_there
    assert is_there or found is False
