#!/usr/bin/python3 -IS
"""Keep the sites of this proxy on the app hosts that take requests.

It asks each app host that stands in /etc/nginx/peers, at its front, whether it is ready: twice a second, as long as
this process runs. One that is drained, or fails twice in a row, is out; one that is out and answers well three times in
a row is in again; one that fails again and again must answer well for longer each time. The last one that is in stays
in, whatever it answers. Who is out stands in the same files, which nginx includes and reads again at each change.
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

# Seconds. Two connections that are not taken, and what lies between, are less than three.
CONNECT = 1
PAUSE = 0.5
PAUSE_UNREACHABLE = 0.1
LOOK = 0.5
RELOAD_AGAIN = 5

# What a host answers that somebody has drained for a while, see the module drain. That is no failure of its own.
DRAINED_STATUS, DRAINED = 423, "is drained"
UNREACHABLE = "takes no connection"
FAILURES = 2
# Of one piece of data, some 0.6 s after it was first sent.
SENT_AGAIN = 2
PASSES = 3
# So often the passes that are asked for are doubled, once for each time that a host went out within these seconds.
DOUBLED = 5
MEMORY = 600


# --- The files, as the module nginx_tree writes them -----------------------------------------------------------------

PEER = re.compile(r"^(?:# )?server (\S+) .*; # (\S+)( is drained)?( is out)?$", re.MULTILINE)
ASKED = re.compile(r"whether it is ready: (\d+) within (\d+) s\.$", re.MULTILINE)


def mark(text, out):
    """Write which peers are out; see the module nginx_tree."""
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
    :param status: what it is to answer.
    :param timeout: the seconds within which.
    """

    app: str
    id: str
    address: str
    status: int
    timeout: int


def targets(app, text):
    """Return whom a file names.

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
    """What is known of a target.

    :param is_out: whether it gets no requests.
    :param in_a_row: how often it has answered as last time.
    :param reason: why it failed, or ``None``.
    :param outs: when it failed and so went out.
    """

    is_out: bool = False
    in_a_row: int = 0
    reason: str | None = None
    outs: list[float] = dataclasses.field(default_factory=list)

    def add(self, reason):
        """Take an answer.

        :param reason: what is wrong with it, or ``None``.
        """
        is_as_before = self.in_a_row and (reason is None) == (self.reason is None)
        self.in_a_row = self.in_a_row + 1 if is_as_before else 1
        self.reason = reason

    def should_be_out(self, now):
        """Tell whether it should get no requests, for all that is known of it alone.

        :param now: seconds of the monotonic clock.
        """
        if self.reason is not None:
            return self.is_out or self.in_a_row >= FAILURES or self.reason == DRAINED
        return self.is_out and self.in_a_row < self.passes(now)

    def passes(self, now):
        """Return how often in a row it must answer well to be in again."""
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
    # That none of them answers well is no host's own trouble, or there is no other to turn to.
    # One that is back is better than they are, at its first good answer.
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
        # No proxy says anything of whom the question is from: it is the host's own.
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
        """Read the file where it is another one, and ask whom it names."""
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
        """Ask nobody any more."""
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
        """Decide who is out, and write it where it stands otherwise in the file."""
        now = time.monotonic()
        out = decided(self.records, self.drained, now)
        for name, record in self.records.items():
            if (name in out) != record.is_out:
                record.is_out = name in out
                has_failed = record.is_out and record.reason != DRAINED
                record.outs = [at for at in record.outs if now - MEMORY < at] + ([now] if has_failed else [])
                print(f"{self.app}: {name} {self.told(name)}", flush=True)
        # Of a file that names nobody whom it could ask, it knows nothing.
        if not self.records or peers_out(self.read_as) == out:
            return
        with locked(), contextlib.suppress(FileNotFoundError):
            with open(self.path, encoding="utf-8", errors="replace") as stream:
                text = stream.read()
            # What is there besides those marks is a converge's to put right.
            if mark(text, out) != text:
                replace(self.path, mark(text, out))
                reload.wanted = True

    def told(self, name):
        """Say what became of a host and why."""
        record = self.records[name]
        if not record.is_out:
            return f"is in: it was ready {record.in_a_row} times in a row"
        others = sorted(other for other, one in self.records.items() if not one.is_out and other not in self.drained)
        return f"is out: it {record.reason}; in: {', '.join(others) or 'none'}"


def ended(task):
    """End with a task that failed: systemd starts this process anew, and all are asked again."""
    if not task.cancelled():
        task.print_stack()
        os._exit(1)


@contextlib.contextmanager
def locked():
    """Keep a converge from writing meanwhile."""
    with open(LOCK, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def replace(path, text):
    """Write a file so that it is the old one or the new one at any moment."""
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    os.rename(f"{path}.new", path)


class Reload:
    """Has nginx read the files again. Where it does not, it is told again, and why is said once."""

    def __init__(self):
        # What was written before this process began may not have been read.
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
