"""Work on what somebody else wrote, in a process of its own, which ends with its time or its memory."""

import contextlib
import ctypes
import faulthandler
import io
import json
import os
import resource
import selectors
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

# Bytes that a call may return.
MAX_RESULT = 64_000_000
MEGABYTE = 1 << 20
# linux/prctl.h
PR_SET_PDEATHSIG = 1
# Deep enough for whatever a document within its own bounds holds. A process of its own ends of it, and nothing else.
RECURSION = 5_000


def call(function: Callable[..., Any], *arguments: Any, seconds: int, megabytes: int) -> Any:
    """Call a function in a process of its own, which ends with its time or its memory.

    A document or a tarball may be made so that the library that reads it never ends, takes all memory or crashes.

    :param function: any; what it does to its own memory nobody sees.
    :param arguments: of the function.
    :param seconds: how long it may take, of the clock and of the processor.
    :param megabytes: how much memory it may take beyond what this process has.
    :return: what the function returns, as JSON has it.
    :raises ValueError: with what it raised, or how it ended.
    """
    reader, writer = os.pipe()
    caller = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads. The child takes no lock of theirs: it computes, writes and ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os.close(reader)
        _work(caller, writer, function, arguments, seconds, megabytes)
    os.close(writer)
    status, is_late = None, False
    try:
        with open(reader, "rb", buffering=0) as stream:
            told, is_late = _read(stream, time.monotonic() + seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if is_late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise ValueError(f"takes longer than {seconds} s")
    try:
        kind, result = json.loads(told)
    except ValueError:
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "nothing"
        raise ValueError(f"cannot be read within {seconds} s and {megabytes} MB ({how})") from None
    if kind == "returned":
        return result
    raise ValueError(result)


def _read(stream: io.FileIO, deadline: float) -> tuple[bytearray, bool]:
    """Return what a process wrote until it ended, and whether it did not end in time, or wrote too much."""
    told = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(told) <= MAX_RESULT:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                return told, True
            if not (part := stream.read(MEGABYTE)):
                return told, False
            told += part
    return told, True


def _work(
    caller: int, writer: int, function: Callable[..., Any], arguments: tuple[Any, ...], seconds: int, megabytes: int
) -> None:
    """Call the function, write what came of it, and end this process, whatever happens."""
    try:
        # It has the caller's locks, and so must not outlive it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != caller:
            return
        # A handler of the run that this process is a copy of is not for it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        with open("/proc/self/statm", encoding="ascii") as stream:
            has = int(stream.read().split()[0]) * resource.getpagesize()
        for what, limit in (
            (resource.RLIMIT_AS, has + megabytes * MEGABYTE),
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_CORE, 0),
        ):
            soft, hard = resource.getrlimit(what)
            limit = min([limit, *(one for one in (soft, hard) if one != resource.RLIM_INFINITY)])
            resource.setrlimit(what, (limit, hard))
        faulthandler.disable()
        sys.setrecursionlimit(RECURSION)
        try:
            told = ["returned", function(*arguments)]
        except ValueError as error:
            told = ["failed", str(error)]
        except MemoryError:
            told = ["failed", f"takes more than {megabytes} MB of memory"]
        except RecursionError:
            told = ["failed", "is nested too deep"]
        except Exception as error:
            # Whatever a library does with what nobody thought of: it is told by its kind, and by no value.
            told = ["failed", f"cannot be read ({type(error).__name__})"]
        with open(writer, "wb") as stream:
            stream.write(json.dumps(told).encode())
    finally:
        os._exit(0)
