"""Bounds: no answer and no document can keep a run busy for long."""

import contextlib
import fcntl
import os
import signal
import time

import pytest

from saltern.system import bounded

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def deep(count):
    return deep(count - 1) if count else 0


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def invalid():
    raise ValueError("line 3: no YAML")


def unforeseen():
    return {}["secret"]


ENDINGS = {
    "what it raises": (invalid, r"^line 3: no YAML$"),
    "an error that nobody thought of, by its kind alone": (unforeseen, r"^cannot be read \(KeyError\)$"),
    "too deep a recursion": (lambda: deep(100_000), "nested too deep"),
    "a crash": (crash, r"cannot be read .*SIGSEGV"),
    "too much memory": (lambda: len("x" * 10**9), "more than 64 MB of memory"),
    "a sleep": (lambda: time.sleep(60), "longer than 1 s"),
    "a loop": (lambda: [None for _ in iter(int, 1)], "longer than 1 s|MB of memory"),
    "a silent end": (lambda: os._exit(3), "cannot be read"),
    "a value that JSON cannot say": (lambda: {1, 2}, "cannot be read"),
}


@pytest.mark.parametrize("function, message", ENDINGS.values(), ids=ENDINGS)
def test_a_call_ends_with(function, message):
    before = time.monotonic()
    with pytest.raises(ValueError, match=message):
        bounded.call(function, seconds=1, megabytes=64)
    assert time.monotonic() - before < 10


def test_a_call_returns_what_json_can_say_and_touches_nothing_here():
    kept = []
    assert bounded.call(lambda *given: kept.extend(given) or {"given": given}, 1, "é", seconds=5, megabytes=64) == {
        "given": [1, "é"]
    }
    assert kept == []


def test_a_large_answer_of_a_call_comes_whole():
    assert bounded.call(lambda: "x" * 5_000_000, seconds=5, megabytes=64) == "x" * 5_000_000


def test_no_process_and_no_file_is_left():
    before = set(os.listdir("/proc/self/fd"))
    for function in (crash, lambda: time.sleep(9), lambda: 1):
        with contextlib.suppress(ValueError):
            bounded.call(function, seconds=1, megabytes=64)
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_is_called_ends_with_its_caller_and_frees_its_locks(tmp_path):
    lock, begun = tmp_path / "lock", tmp_path / "begun"
    caller = os.fork()
    if not caller:
        with open(lock, "w") as stream, contextlib.suppress(BaseException):
            fcntl.flock(stream, fcntl.LOCK_EX)
            bounded.call(lambda: begun.touch() or time.sleep(60), seconds=60, megabytes=64)
        os._exit(0)
    while not begun.exists():
        time.sleep(0.01)
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    before = time.monotonic()
    with open(lock, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
    assert time.monotonic() - before < 10
