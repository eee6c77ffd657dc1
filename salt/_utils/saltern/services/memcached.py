"""memcached: an instance for the app that attaches it, of which nothing is kept."""

import contextlib
import datetime
import glob
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, cast
from urllib.parse import SplitResult

from salt.exceptions import CommandExecutionError

from saltern.attachments.users import holders, users
from saltern.host import Host
from saltern.services.base import AUTHORITIES, LOOPBACK, Requisite, Settings, Target
from saltern.services.networked import Networked
from saltern.services.steps import Run, Step, Work
from saltern.system import files, sockets, systemd
from saltern.tls import served

# Its port among an app's hundred; see formulas/app/README.md. Those of Redis begin after it.
OFFSET = 89
# These ports of all apps that there can be. All of them have a bound, so that an instance that comes or goes changes no
# rule of the firewall: new rules begin to count again.
PORTS = range(8000 + OFFSET, 30000, 100)

USER = "memcache"
CERTIFICATE = "/etc/ssl/saltern/memcached.pem"
# Who may log in to each instance, and which logins the running one knows.
LOGINS = "/etc/saltern/memcached"
UNITS = "/etc/systemd/system"

# memcached reads no more than so many logins of a file.
MOST_LOGINS = 8
# Beside its items: MB for itself, and KB for each connection, which has buffers of its own and of TLS.
OVERHEAD, CONNECTION = 64, 96
# Seconds that a start takes at most, and a reload, which memcached does once a second.
SETTLED = 10

INSTANCE = re.compile(r"memcached@(.+)\.service\.d")
TOLD = re.compile(r"# The instance \S+, which belongs to the app (\S+) and listens at the port (\d+)\.")


class Memcached(Networked):
    """An instance of the environment's memcached host."""

    kind = "memcached"
    schema = {
        "memcached": {
            "description": "A memcached instance of the environment's memcached host, for this app alone.",
            "type": "string",
            "pattern": r"^[a-z][a-z0-9-]{0,30}\Z",
            "x-expected": "an instance's name of lower-case letters, digits and hyphens",
            "examples": ["shop"],
        }
    }
    role = "memcached"
    noun = "memcached instance"
    plural = "instances"
    scheme = "memcacheds"
    schemes = ("memcacheds",)
    query = {"ssl_ca_certs": AUTHORITIES}
    users = (USER,)
    relied_on = "memcached@*.service"

    # --- What follows from an attachment ------------------------------------------------------------------------------

    def refused(self, name: str, app: str) -> str:
        """Refuse none."""
        return ""

    def port(self, name: str, resource: Settings, app: Mapping[str, Any]) -> int:
        """Note the instance's port, which is one of the app's."""
        resource["port"] = app["port"] + OFFSET
        return int(resource["port"])

    def listeners(self, settings: Settings) -> dict[str, int]:
        """Return the port of each instance."""
        return {f"memcached {name}": instance["port"] for name, instance in sorted(self.owned(settings).items())}

    def complete(self, settings: Settings) -> list[str]:
        """Note the memory of each instance, and refuse two instances of one app, which has one port for them."""
        found: list[str] = []
        owners: dict[str, str] = {}
        for name, instance in sorted(self.owned(settings).items()):
            amount = instance.get("memory", settings["memory"])
            instance["megabytes"] = int(amount[:-2]) * {"mb": 1, "gb": 1024}[amount[-2:]]
            first = owners.setdefault(instance["owner"], name)
            if first != name:
                found.append(
                    f"app.{instance['owner']}.attach: has the memcached instances {first} and {name}; expected one, "
                    "for which an app has a port"
                )
        return found

    def allowed(self, settings: Settings, places: Callable[[int], int]) -> dict[str, tuple[list[int], int]]:
        """Return the connections of each instance that has a number of its own, and of all others, and note places."""
        found, others = {}, set(PORTS)
        for name, instance in sorted(self.owned(settings).items()):
            count = instance.get("maxclients", settings["maxclients"])
            instance["places"] = places(count)
            instance["ceiling"] = instance["megabytes"] * 9 // 8 + OVERHEAD + instance["places"] * CONNECTION // 1024
            if "maxclients" in instance:
                found[f"memcached {name}"] = ([instance["port"]], count)
                others.discard(instance["port"])
        return found | {"memcached": (sorted(others), settings["maxclients"])}

    def path(self, target: Target) -> str:
        """Return nothing: an instance has no parts."""
        return "/"

    def parts(self) -> list[str]:
        """Name the parts, of which no database is one."""
        return [part for part in super().parts() if part != self.part]

    def identity(self, url: SplitResult) -> str:
        """Return the port."""
        return str(url.port)

    def name(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Return the app's instance that has the URL's port today."""
        ports = {one["port"]: name for name, one in self.owned(settings).items() if one["owner"] == app}
        return str(ports.get(url.port, f"at port {url.port}"))

    def is_ready(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Ask whether the instance lets the app in."""
        who = login(), host.password(self, name)
        with contextlib.suppress(CommandExecutionError), _session(host.resource(self, name)["port"], *who):
            return True
        return False

    # --- States -------------------------------------------------------------------------------------------------------

    def made(self, name: str) -> Requisite:
        """Return the state after which the instance lets the app in."""
        return {"resource": f"memcached-served-{name}"}

    def claimed(self, name: str) -> Requisite:
        """Return a state before any instance gives way. It refuses nobody: of another app's data nothing is kept."""
        return {"resource": f"memcached-logins-{name}"}

    def replacing(self) -> list[Requisite]:
        """Return the state that frees the ports of instances that are replaced."""
        return [{"resource": "memcached-replaced"}]

    def units(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the unit of each instance."""
        return [f"{_unit(name)}.service" for name in sorted(self.owned(settings))]

    def kept(self, host: Host) -> dict[str, dict[str, Any]]:
        """List nothing: a cache is not kept."""
        return {}

    def steps(self) -> Mapping[str, Work]:
        """Return who may log in, which instances give way, whether each answers, and which ones end."""
        return {"logins": self._logins, "replaced": self._replaced, "served": self._served, "retired": self._retired}

    def _logins(self, run: Run, name: str) -> Step:
        """Have the file of those who may log in: the app, with its password and with those of before.

        The notes beside it say what the instance was told last: a run that is interrupted in between is made up for.
        """
        resource, login = run.host.resource(self, name), run.host.login(self, name)
        others, since = self._others(name, resource["owner"], login)
        text, notes = _written({login: run.host.password(self, name)} | others, since)
        before = files.read(_path(name, "logins"))
        comment = f"{name} lets in {', '.join(sorted({login, *others}))}"
        if before == text and files.read(_path(name, "json")) == notes:
            return Step(comment)
        had = sorted(line.partition(":")[0] for line in (before or "").splitlines())
        changes = {name: {"old": had or None, "new": sorted({login, *others})}}
        return Step(comment, changes, lambda: _write(run, name, text, notes))

    def _others(self, name: str, app: str, login: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the logins of passwords that were replaced with these, newest first, and since when."""
        notes = json.loads(files.read(_path(name, "json")) or "{}")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        pairs = [line.partition(":") for line in (files.read(_path(name, "logins")) or "").splitlines()]
        own = re.compile(rf"{re.escape(app)}_[0-9a-f]+")
        since = {user: notes.get("since", {}).get(user, now) for user, _, _ in pairs if user != login}
        there = [(user, word) for user, _, word in pairs if user != login and own.fullmatch(user)]
        there.sort(key=lambda pair: (since[pair[0]], pair[0]), reverse=True)
        return dict(there[: MOST_LOGINS - 1]), since

    def _replaced(self, run: Run, name: str) -> Step:
        """Have no instance on the port of one that takes its place."""
        ports = {str(one["port"]) for one in self.owned(run.host.pillar[self.kind]).values()}
        return _ended(run, [one for one, (_, port) in self._gone(run).items() if port in ports])

    def _served(self, run: Run, name: str) -> Step:
        """Have an instance let its app in, and serve the certificate that is on the disk, without a restart."""
        port, unit = run.host.resource(self, name)["port"], _unit(name)
        comment = f"{name} lets its app in, with the certificate of {CERTIFICATE}"
        changes = {name: {"old": "another certificate", "new": "served"}}
        if run.host.is_dry:
            # One that would start or restart reads what is there by then.
            if run.changed(unit) or systemd.started(unit) is None:
                return Step(comment)
            return Step(comment, changes if run.changed(CERTIFICATE) or not _serves(port) else {})
        who = run.host.login(self, name), run.host.password(self, name)
        _wait(name, port, who)
        return Step(comment) if _serves(port) else Step(comment, changes, lambda: _refresh(name, port, who))

    def _retired(self, run: Run, name: str) -> Step:
        """Have no instance that no app attaches and no release has, and no login of before that no release has."""
        gone, said = self._gone(run), []
        ending = []
        for one, (_, port) in gone.items():
            used = users(run.host, self, port, run.staying)
            if used := used or _remote(int(port), run.host.address):
                said.append(f"{one} runs on for {', '.join(used)}")
            else:
                ending.append(one)
        closing, stays = self._closing(run)
        said += [f"the login {login} stays open for {', '.join(by)}" for login, by in sorted(stays.items())]
        ended = _ended(run, ending)
        changes = {**ended.changes, **{login: {"old": "replaced", "new": "closed to logins"} for login in closing}}

        def act() -> None:
            ended.act()
            for one in sorted(set(closing.values())):
                self._close(run, one, [login for login, instance in closing.items() if instance == one])

        return Step("; ".join([ended.comment, *said]), changes, act)

    def _closing(self, run: Run) -> tuple[dict[str, str], dict[str, list[str]]]:
        """Return the logins of before that nobody has, with their instances, and who has each of the others."""
        closing: dict[str, str] = {}
        stays: dict[str, list[str]] = {}
        settings = run.host.pillar[self.kind]
        hours, today = settings["overlap"] if settings["listen"] else 0, datetime.datetime.now(datetime.UTC)
        held: dict[str, list[str]] | None = None
        for name, instance in sorted(self.owned(settings).items()):
            others, since = self._others(name, instance["owner"], run.host.login(self, name))
            for login in others:
                if held is None:
                    held = holders(run.host, self, not run.host.is_dry, run.staying)
                until = datetime.datetime.fromisoformat(since[login]) + datetime.timedelta(hours=hours)
                waits = [f"other app hosts until {until.isoformat(timespec='minutes')}"] if until > today else []
                if by := held.get(login) or waits:
                    stays[login] = by
                else:
                    closing[login] = name
        return closing, stays

    def _close(self, run: Run, name: str, logins: list[str]) -> None:
        login = run.host.login(self, name)
        others, since = self._others(name, run.host.resource(self, name)["owner"], login)
        left = {user: word for user, word in others.items() if user not in logins}
        _write(run, name, *_written({login: run.host.password(self, name)} | left, since))

    def _gone(self, run: Run) -> dict[str, tuple[str, str]]:
        """Return the instances of this host that no app attaches: app and port by name."""
        attached = self.owned(run.host.pillar[self.kind])
        found = {}
        for path in sorted(glob.glob(f"{UNITS}/memcached@*.service.d/saltern.conf")):
            match = INSTANCE.fullmatch(os.path.basename(os.path.dirname(path)))
            if match and match[1] not in attached and (told := TOLD.match(files.read(path) or "")):
                found[match[1]] = (told[1], told[2])
        return found


def _unit(name: str) -> str:
    return f"memcached@{name}"


def _path(name: str, kind: str) -> str:
    return f"{LOGINS}/{name}.{kind}"


def _remote(port: int, own: str) -> list[str]:
    """List the other hosts that are connected to a port of this one."""
    found = sockets.diagnosed([sockets.ESTABLISHED]).values()
    peers = {one.peer.rpartition(":")[0] for one in found if one.port == port} - {LOOPBACK, "::1", own}
    return [f"{peer}, which is connected" for peer in sorted(peers)]


def _written(passwords: Mapping[str, str], since: Mapping[str, str]) -> tuple[str, str]:
    """Return the file of logins with their passwords, and the notes of which these are and since when some are old."""
    notes = {"logins": sorted(passwords), "since": {login: since[login] for login in passwords if login in since}}
    return "".join(f"{login}:{password}\n" for login, password in passwords.items()), json.dumps(notes)


def _write(run: Run, name: str, text: str, notes: str) -> None:
    """Write who may log in, have a running instance read it, and note that it has."""
    os.makedirs(LOGINS, mode=0o755, exist_ok=True)
    files.write(_path(name, "logins"), text, 0o640, 0, run.host.ask("file.group_to_gid", USER))
    # One that does not run has the PID 0, and reads them at its start.
    if pid := int(systemd.shown(_unit(name), "MainPID").get("MainPID") or 0):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
    files.write(_path(name, "json"), notes, 0o600, 0, 0)


def _ended(run: Run, names: list[str]) -> Step:
    """Stop instances for good."""
    changes = {name: {"old": "present", "new": None} for name in names}

    def act() -> None:
        for name in names:
            unit = _unit(name)
            if not (run.host.ask("service.stop", unit) and run.host.ask("service.disable", unit)):
                raise CommandExecutionError(f"{unit} does not stop; see systemctl status {unit}")
            for kind in ("logins", "json"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_path(name, kind))
            # Done last, so that the next run takes up an interrupted one.
            shutil.rmtree(f"{UNITS}/{unit}.service.d")
        if names:
            systemd.read()

    return Step(f"No instance ends: {', '.join(names)}" if names else "No other instance is there", changes, act)


# -- memcached's protocol ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _session(port: int, login: str, password: str) -> Iterator[BinaryIO]:
    """Log in: memcached takes what is set first for that; see "Authentication" in its protocol.txt."""
    with served.connected("memcached", port) as connection, cast(BinaryIO, connection.makefile("rwb")) as stream:
        words = f"{login} {password}".encode()
        if _asked(stream, b"set login 0 0 %d\r\n%s" % (len(words), words)) != "STORED":
            raise CommandExecutionError(f"memcached at port {port} does not let in {login}")
        yield stream


def _asked(stream: BinaryIO, command: bytes) -> str:
    stream.write(command + b"\r\n")
    stream.flush()
    return stream.readline().decode("ascii", "replace").strip()


def _wait(name: str, port: int, who: tuple[str, str]) -> None:
    """Wait until an instance that was started, or that reads who may log in, lets a login in."""
    deadline = time.monotonic() + SETTLED
    while True:
        try:
            with _session(port, *who):
                return
        except CommandExecutionError as error:
            if time.monotonic() > deadline:
                raise CommandExecutionError(f"{name}: {error}; journalctl -u {_unit(name)} says why") from None
        time.sleep(0.1)


def _serves(port: int) -> bool:
    """Tell whether an instance serves the certificate that is on the disk."""
    with served.connected("memcached", port) as connection:
        return served.is_of(connection, CERTIFICATE)


def _refresh(name: str, port: int, who: tuple[str, str]) -> None:
    """Have an instance read its certificate again; connections that are open stay so."""
    with _session(port, *who) as stream:
        if (answer := _asked(stream, b"refresh_certs")) != "OK":
            raise CommandExecutionError(f"{name}: memcached answers refresh_certs with: {answer}")
