#!/usr/bin/python3 -IS
"""Keep the sites of this proxy on the app hosts that take requests.

This service asks each app host in /etc/nginx/peers twice a second whether the host is ready. A host goes out when it is
drained or fails twice in a row. It comes back after three good answers in a row; a host that fails again and again must
answer well for longer each time. The last host that is in stays in, whatever it answers. The same files hold who is
out: nginx includes them, and reads them again at each change.
"""

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import re
import subprocess
import sys
import time

DIRECTORY = "/etc/nginx/peers"
LOCK = "/run/saltern/saltern.peers.lock"
PATH = "/.saltern/ready"

# Seconds. Two connections that nobody accepts, and the pause between them, take less than three.
CONNECT = 1
PAUSE = 0.5
PAUSE_UNREACHABLE = 0.1
LOOK = 0.5
RELOAD_AGAIN = 5

# The answer of a host that was drained for a while; see the module drain. It counts as no failure.
DRAINED_STATUS, DRAINED = 423, "is drained"
UNREACHABLE = "takes no connection"
FAILURES = 2
# Retransmissions of one piece of data: some 0.6 s after it was first sent.
SENT_AGAIN = 2
PASSES = 3
# The good answers asked for double each time that a host goes out within these seconds, at most this often.
DOUBLED = 5
MEMORY = 600


# --- The files, as saltern.web.peers writes them ----------------------------------------------------------------------

PEER = re.compile(r"^(?:# )?server (\S+) .*; # (\S+)( is drained)?( is out)?$", re.MULTILINE)
ASKED = re.compile(r"whether it is ready: (\d+) within (\d+) s\.$", re.MULTILINE)


def mark(text, out):
    """Write which peers are out; see ``saltern.web.peers``."""
    left = [name for _, name, drained, _ in PEER.findall(text) if not drained and name not in out]

    def line(match):
        address, name, drained, _ = match.groups()
        rules = "max_fails=0" if left == [name] else "max_fails=2 fail_timeout=2s" if name in left else "down"
        start = "# server" if left and name not in left else "server"
        return f"{start} {address} {rules}; # {name}{drained or ''}{' is out' if name in out else ''}"

    return PEER.sub(line, text)


def peers_out(text):
    """Return the ids of the peers that are out."""
    return {name for _, name, _, is_out in PEER.findall(text) if is_out}


@dataclasses.dataclass(frozen=True)
class Target:
    """One app on one app host.

    :param app: the app's name.
    :param id: the host's id.
    :param address: where it is asked, as ``10.0.0.1:8100``.
    :param status: the expected status.
    :param timeout: seconds in which the answer must come.
    """

    app: str
    id: str
    address: str
    status: int
    timeout: int


def targets(app, text):
    """Return the targets that a file names.

    :param app: the app's name.
    :param text: the file's.
    :return: a list of targets, none where the file cannot be understood.
    """
    asked = ASKED.search(text)
    if not asked:
        return []
    status, timeout = map(int, asked.groups())
    return [Target(app, name, address, status, timeout) for address, name, _, _ in PEER.findall(text)]


# --- Who is out ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Record:
    """The state of a target.

    :param is_out: whether it gets no requests.
    :param in_a_row: how many answers in a row were like the last one.
    :param reason: why it failed, or ``None``.
    :param outs: the times at which it went out because it failed.
    """

    is_out: bool = False
    in_a_row: int = 0
    reason: str | None = None
    outs: list[float] = dataclasses.field(default_factory=list)

    def add(self, reason):
        """Count an answer.

        :param reason: what is wrong with it, or ``None``.
        """
        is_as_before = self.in_a_row and (reason is None) == (self.reason is None)
        self.in_a_row = self.in_a_row + 1 if is_as_before else 1
        self.reason = reason

    def should_be_out(self, now):
        """Tell whether it should get no requests, whatever the other targets answer.

        :param now: seconds of the monotonic clock.
        """
        if self.reason is not None:
            return self.is_out or self.in_a_row >= FAILURES or self.reason == DRAINED
        return self.is_out and self.in_a_row < self.passes(now)

    def passes(self, now):
        """Return how many good answers in a row bring it back."""
        recent = sum(now - MEMORY < at for at in self.outs)
        return PASSES * 2 ** min(max(recent - 1, 0), DOUBLED)


def decided(records, drained, now):
    """Decide who is out.

    :param records: of a site's app hosts, by id.
    :param drained: the ids of those that get no requests anyway.
    :param now: seconds of the monotonic clock.
    :return: ids. One that is not drained is always left, where there is any.
    """
    out = {name for name, record in records.items() if record.should_be_out(now)}
    serving = records.keys() - drained
    if serving - out:
        return out
    # Where no host answers well, the trouble is no single host's, and no other host could take over. Then a host that
    # is out comes back at its first good answer.
    is_back = {name for name in serving if records[name].in_a_row and records[name].reason is None}
    out -= {name for name in serving if not records[name].is_out} | is_back
    return out if serving - out else out - serving


# --- Asking ----------------------------------------------------------------------------------------------------------


async def ask(target):
    """Ask a host whether it is ready; return what is wrong, or ``None``."""
    host, _, port = target.address.rpartition(":")
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT)
    except TimeoutError:
        return UNREACHABLE
    except OSError as error:
        return f"{UNREACHABLE}: {os.strerror(error.errno) if error.errno else error}"
    except ValueError:
        return "has no port"
    try:
        # No proxy header: the question is the host's own.
        writer.write(f"GET {PATH} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: saltern-peers\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), target.timeout)
    except TimeoutError:
        return f"does not answer within {target.timeout} s"
    except (OSError, ValueError):
        return "breaks the connection"
    finally:
        writer.close()
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", line)
    if not status:
        return "gives no answer"
    if int(status[1]) == DRAINED_STATUS:
        return DRAINED
    return None if int(status[1]) == target.status else f"answers {int(status[1])}, not {target.status}"


async def let_go(target):
    """End the connections on which a host that is gone does not even acknowledge what nginx has sent.

    nginx would wait on each of them for as long as the app may take. So it asks another host where that is harmless,
    and answers where it is not.
    """
    host, _, port = target.address.rpartition(":")
    to = ["state", "established", "dst", host, "dport", "=", f":{port}"]
    ports = stuck(await output_of("ss", "-tnoH", *to))
    if ports:
        among = " or ".join(f"sport = :{port}" for port in ports)
        await output_of("ss", "-KtnH", *to, "and", "(", *among.split(), ")")
        print(f"{target.app}: {len(ports)} connections to {target.id} were ended", flush=True)


def stuck(listed):
    """Return the local ports of connections whose data was sent again and again, in the form of ``ss -tno``."""
    found = re.findall(r"^\s*\d+\s+\d+\s+\S+:(\d+)\s+\S+\s+timer:\(on,[^,]*,(\d+)\)", listed, re.MULTILINE)
    return [int(port) for port, sent_again in found if int(sent_again) >= SENT_AGAIN]


async def output_of(*command):
    """Return what a command prints; nothing where it is not installed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return ""
    return (await process.communicate())[0].decode(errors="replace")


class Site:
    """A site's file and what is known of its app hosts."""

    def __init__(self, app):
        self.app, self.path = app, f"{DIRECTORY}/{app}.conf"
        self.records, self.tasks, self.drained, self.read_as = {}, {}, set(), ""

    def look(self):
        """Read the file where it has changed, and ask the targets that it names."""
        with open(self.path, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
        if text == self.read_as:
            return
        self.read_as = text
        self.drained = {name for _, name, drained, _ in PEER.findall(text) if drained}
        named = targets(self.app, text)
        for target in self.tasks.keys() - set(named):
            self.tasks.pop(target).cancel()
        for name in self.records.keys() - {target.id for target in named}:
            del self.records[name]
        out = peers_out(text)
        for target in named:
            self.records.setdefault(target.id, Record(is_out=target.id in out))
            if target not in self.tasks:
                self.tasks[target] = asyncio.create_task(self.watch(target))
                self.tasks[target].add_done_callback(ended)
        self.settle()

    def end(self):
        """Stop asking."""
        for task in self.tasks.values():
            task.cancel()

    async def watch(self, target):
        """Ask one host for ever."""
        while True:
            reason = await ask(target)
            if target.id in self.records:
                self.records[target.id].add(reason)
                self.settle()
                if reason == UNREACHABLE and self.records[target.id].is_out:
                    await let_go(target)
            is_unreachable = reason and reason.startswith(UNREACHABLE)
            await asyncio.sleep(PAUSE_UNREACHABLE if is_unreachable else PAUSE)

    def settle(self):
        """Decide who is out, and write that where the file says otherwise."""
        now = time.monotonic()
        out = decided(self.records, self.drained, now)
        for name, record in self.records.items():
            if (name in out) != record.is_out:
                record.is_out = name in out
                has_failed = record.is_out and record.reason != DRAINED
                record.outs = [at for at in record.outs if now - MEMORY < at] + ([now] if has_failed else [])
                print(f"{self.app}: {name} {self.told(name)}", flush=True)
        # Where the file names no target, nothing is known.
        if not self.records or peers_out(self.read_as) == out:
            return
        with locked(), contextlib.suppress(FileNotFoundError):
            with open(self.path, encoding="utf-8", errors="replace") as stream:
                text = stream.read()
            # Everything else in the file is for a converge to correct.
            if mark(text, out) != text:
                replace(self.path, mark(text, out))
                reload.wanted = True

    def told(self, name):
        """Log whether a host is in or out, and why."""
        record = self.records[name]
        if not record.is_out:
            return f"is in: it was ready {record.in_a_row} times in a row"
        others = sorted(other for other, one in self.records.items() if not one.is_out and other not in self.drained)
        return f"is out: it {record.reason}; in: {', '.join(others) or 'none'}"


def ended(task):
    """End this process where a task failed: systemd starts it again, and all targets are asked again."""
    if not task.cancelled():
        task.print_stack()
        os._exit(1)


@contextlib.contextmanager
def locked():
    """Hold the lock that keeps a converge from writing meanwhile."""
    with open(LOCK, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def replace(path, text):
    """Write a file atomically: at any moment it is the old one or the new one."""
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    os.rename(f"{path}.new", path)


class Reload:
    """Reloads nginx. Where that fails, the reload is tried again, and the reason is logged once."""

    def __init__(self):
        # nginx may not have read what was written before this process began.
        self.wanted, self.said, self.not_before = True, "", 0.0

    async def when_wanted(self):
        """Reload nginx where a file was written."""
        if not self.wanted or time.monotonic() < self.not_before:
            return
        self.wanted = False
        command = ("systemctl", "reload", "nginx")
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = await process.communicate()
        said = output.decode(errors="replace").strip() if process.returncode else ""
        if process.returncode:
            self.wanted, self.not_before = True, time.monotonic() + RELOAD_AGAIN
        if said and said != self.said:
            print(f"nginx does not reload: {said}", file=sys.stderr, flush=True)
        self.said = said


reload = Reload()


async def main():
    sites = {}
    while True:
        there = {name.removesuffix(".conf") for name in os.listdir(DIRECTORY) if name.endswith(".conf")}
        for app in sites.keys() - there:
            sites.pop(app).end()
        for app in sorted(there):
            with contextlib.suppress(FileNotFoundError):
                sites.setdefault(app, Site(app)).look()
        deadline = time.monotonic() + LOOK
        while time.monotonic() < deadline:
            await reload.when_wanted()
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
