"""Bounds on what apps and their builds hand to root: an answer over HTTP, and work on what somebody else wrote."""

import contextlib
import ctypes
import faulthandler
import http.client
import io
import json
import os
import resource
import selectors
import signal
import sys
import time
import warnings

__load__ = ["answer", "call"]

# Bytes of an answer's head, the ones that only announce it (1xx) among them. nginx takes 8 kB by default.
MAX_HEAD = 65_536
# Bytes that a call may return.
MAX_RESULT = 64_000_000
MEGABYTE = 1 << 20
# linux/prctl.h
PR_SET_PDEATHSIG = 1
# Deep enough for whatever a document within its own bounds holds. A process of its own ends of it, and nothing else.
RECURSION = 5_000


# --- An answer over HTTP ----------------------------------------------------------------------------------------------


class AnswerTooLong(http.client.HTTPException):
    """The head of an answer has no end, or none worth waiting for."""


class AnswerCutOff(http.client.HTTPException):
    """The head of an answer ends before it is whole."""


class _Reader(io.RawIOBase):
    """Reads from a socket until a time, and so many bytes.

    :param stream: a connected socket.
    :param deadline: seconds of the monotonic clock.
    """

    def __init__(self, stream, deadline):
        self.stream, self.deadline, self.left = stream, deadline, MAX_HEAD
        self.is_at_end = False

    def readable(self):
        return True

    def readinto(self, buffer):
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        self.stream.settimeout(seconds)
        count = self.stream.recv_into(buffer)
        self.left -= count
        self.is_at_end = not count
        if self.left < 0:
            raise AnswerTooLong(f"more than {MAX_HEAD} bytes")
        return count


class _Connection:
    """What ``http.client`` takes for a socket.

    :param stream: a connected socket.
    :param deadline: seconds of the monotonic clock.
    """

    def __init__(self, stream, deadline):
        self.stream, self.deadline = stream, deadline
        # One for all heads of an answer: http.client asks for it anew at each.
        self.reader = _Reader(stream, deadline)
        self.file = io.BufferedReader(self.reader)

    def sendall(self, data):
        self.stream.settimeout(max(self.deadline - time.monotonic(), 0.001))
        self.stream.sendall(data)

    def makefile(self, *_):
        return self.file

    def close(self):
        pass


def answer(stream, path, headers, deadline):
    """Ask for a path over HTTP, and return the status and where it leads. A redirect is not followed.

    Of the answer its head is read and nothing else. ``http.client`` alone bounds each read, and so waits without an end
    for whoever sends a byte now and then, or announces the answer again and again.

    :param stream: a connected socket, which stays the caller's.
    :param path: what is asked for, with GET.
    :param headers: a mapping, ``Host`` among them.
    :param deadline: seconds of the monotonic clock at which the head must be whole.
    :return: the status, and the header ``Location`` or ``None``.
    :raises TimeoutError: when it is not.
    :raises http.client.HTTPException: when it is no HTTP, or too much.

    CLI Example: none, it serves the module release.
    """
    connection = _Connection(stream, deadline)
    asking = http.client.HTTPConnection(headers["Host"])
    asking.sock = connection
    asking.request("GET", path, headers=headers)
    heads = []
    while True:
        # One that nobody refers to closes the file that the next one is read from.
        heads.append(response := http.client.HTTPResponse(connection, method="GET"))
        response.begin()
        # http.client takes the end of the connection for the end of a head. nginx does not.
        if connection.reader.is_at_end:
            raise AnswerCutOff("the head is not whole")
        # 100 to 199 announce an answer, but for 101, after which there is none.
        if response.status >= 200 or response.status == http.client.SWITCHING_PROTOCOLS:
            return response.status, response.headers.get("Location")


# --- Work in a process of its own -------------------------------------------------------------------------------------


def call(function, *arguments, seconds, megabytes):
    """Call a function in a process of its own, which ends with its time or its memory.

    A document or a tarball may be made so that the library that reads it never ends, takes all memory or crashes.

    :param function: any; what it does to its own memory nobody sees.
    :param arguments: of the function.
    :param seconds: how long it may take, of the clock and of the processor.
    :param megabytes: how much memory it may take beyond what this process has.
    :return: what the function returns, as JSON has it.
    :raises ValueError: with what it raised, or how it ended.

    CLI Example: none, it serves the modules build and openapi.
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


def _read(stream, deadline):
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


def _work(caller, writer, function, arguments, seconds, megabytes):
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
