"""Mail: a relay on the app's own host, which queues what the smart host does not take yet.

The relay is the host's, so all its apps attach the same one. It takes mail from this host alone, and so asks nobody who
he is. Postfix is the engine: of Debian's it queues, verifies the smart host, tells its queue as JSON, and is kept up.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult

from salt.exceptions import CommandExecutionError

from saltern import kept
from saltern.attachments.users import users
from saltern.host import Host
from saltern.services import mail_config
from saltern.services.base import LOOPBACK, Hosts, Requisite, Settings, Target
from saltern.services.resource import Resource
from saltern.services.steps import Run, Step, Work
from saltern.system import systemd
from saltern.system.sizes import megabytes

PORT = 25
# Where a catcher takes mail, as most of them do unless told otherwise.
CATCHER = 1025
NAME = "default"
UNIT = "saltern-mail"
UNIT_FILE = f"/etc/systemd/system/{UNIT}.service"
CONFIGURATION, PASSWORD = "/etc/postfix/main.cf", "/etc/postfix/saltern-password"
# What Postfix has of mail that is not delivered yet.
SPOOL = "/var/spool/postfix"
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold")
# Seconds in which the relay answers.
SETTLED = 10
# The connections of one user to the relay. Postfix takes a hundred.
CONNECTIONS = 33


class Mail(Resource):
    """The relay of the app's host."""

    kind = "mail"
    schema = {
        "mail": {
            "description": "The mail relay of the app's host. The app gets its URL.",
            "type": "string",
            "pattern": r"^default\Z",
            "x-expected": "default, the one relay of a host",
            "examples": ["default"],
        }
    }
    role = "mail"
    noun = "mail relay"
    plural = "relays"
    scheme = "smtp"
    schemes = ("smtp",)
    known_as = ()
    is_local = True
    users = ("postfix",)

    # --- What follows from an attachment ------------------------------------------------------------------------------

    def refused(self, name: str, app: str) -> str:
        """Refuse none."""
        return ""

    def attach(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Complete an attachment; see ``Service.attach``. The first app stands for all, since the relay is the host's.

        :return: a list of mistakes.
        """
        if "access" in target:
            return [f"{path}.access: the relay is for all apps of its host; expected it without"]
        relay = settings[self.kind][self.plural].setdefault(target[self.kind], {"owner": None})
        relay["owner"] = relay["owner"] or app
        return self.lead(path, target, app, settings, hosts)

    def lead(self, path: str, target: Target, app: str, settings: Settings, hosts: Hosts) -> list[str]:
        """Lead to the relay of the app's own host; see ``Resource.lead``."""
        apps = hosts.peers("app")
        if not apps:
            return [hosts.lacking(path, "app")]
        if missing := sorted(set(apps) - set(hosts.peers(self.role))):
            return [
                f"{path}.mail: {', '.join(missing)} {'have' if missing[1:] else 'has'} no relay; expected the role "
                "mail at each app host, in pillar/hosts.yaml"
            ]
        settings[self.kind][self.plural][target[self.kind]].setdefault("host_id", hosts.own)
        target["address"], target["port"] = LOOPBACK, PORT
        return []

    def allowed(self, settings: Settings, places: Callable[[int], int]) -> dict[str, tuple[list[int], int]]:
        """Return the connections of the relay: one app cannot keep the others from it."""
        return {"mail": ([PORT], CONNECTIONS)}

    def mistakes(self, settings: Settings, apps: Mapping[str, Any]) -> list[str]:
        """Refuse the parameters that are Saltern's own; see ``Resource.mistakes``."""
        return super().mistakes(settings, apps) + mail_config.mistakes(settings)

    def complete(self, settings: Settings) -> list[str]:
        """Complete the relay with what is usual; see ``Resource.complete``."""
        found = []
        for name, relay in sorted(self.owned(settings).items()):
            path = f"mail.relays.{name}"
            if relay.get("catch"):
                # Nothing is said of the smart host that is not asked.
                relay |= {"host": LOOPBACK, "port": CATCHER, "user": ""}
                relay.setdefault("domain", "localdomain")
            for setting, expected in (("host", "smtp.example.com"), ("domain", "shop.example.com")):
                if setting not in relay:
                    found.append(
                        f"{path}.{setting}: missing; expected a name such as {expected}, or catch: true beside"
                    )
            if relay.get("user") and "password" not in relay:
                found.append(f"{path}.password: missing; expected text, in pillar/secrets, since there is a user")
            elif "password" in relay and "user" not in relay:
                found.append(f"{path}.user: missing; expected text, since there is a password")
            relay.setdefault("user", "")
            own = str(relay.get("host_id", ""))
            relay["parameters"] = mail_config.parameters(settings)
            relay["at_start"] = mail_config.at_start(settings)
            relay["name"] = own.lower() if "." in own else f"{own.lower()}.{relay.get('domain', '')}"
        return found

    def path(self, target: Target) -> str:
        """Return nothing: a relay has no parts."""
        return ""

    def parts(self) -> list[str]:
        """Name the parts."""
        return ["HOST", "PORT"]

    def identity(self, url: SplitResult) -> str:
        """Return the name of the one relay.

        :raises ValueError: where a URL leads elsewhere.
        """
        if (url.scheme, url.hostname, url.port) != (self.scheme, LOOPBACK, PORT):
            raise ValueError(f"{url.geturl()}: is no relay's URL")
        return NAME

    def is_of(self, url: SplitResult, identity: str, own: str) -> bool:
        """Tell whether a URL leads to the relay."""
        return self.identity(url) == identity

    def is_ready(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Ask whether the relay answers."""
        return answers()

    # --- States -------------------------------------------------------------------------------------------------------

    def made(self, name: str) -> Requisite:
        """Return the state after which the relay takes mail."""
        return {"resource": "mail-served"}

    def claimed(self, name: str) -> Requisite:
        """Return the same: the relay is nobody's."""
        return self.made(name)

    def units(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the unit of the relay."""
        return [f"{UNIT}.service" for _ in self.owned(settings)]

    def steps(self) -> Mapping[str, Work]:
        """Return whether the relay has its configuration, and when it ends."""
        return {"configured": mail_config.judged, "served": self._served, "retired": self._retired}

    def _served(self, run: Run, name: str) -> Step:
        """Have the relay read what is on the disk, and take mail."""
        paths, since = [CONFIGURATION, PASSWORD], systemd.loaded(UNIT)
        is_older = since is not None and systemd.newer(paths, since, time.time())
        if run.host.is_dry:
            # One that would start or restart reads what is there by then.
            is_older = since is not None and not run.changed(UNIT) and (is_older or any(map(run.changed, paths)))
        elif run.changed(UNIT):
            _wait()
        changes = {UNIT: {"old": "older than its configuration", "new": "reloaded"}} if is_older else {}
        return Step("The relay takes mail of this host", changes, lambda: systemd.reload(UNIT))

    def _retired(self, run: Run, name: str) -> Step:
        """Stop a relay that no app attaches, and that no release has. What it has not delivered stays."""
        if self.owned(run.host.pillar[self.kind]) or not os.path.exists(UNIT_FILE):
            return Step("The relay is as the apps attach it")
        if by := users(run.host, self, NAME, run.staying):
            return Step(f"The relay runs on for {', '.join(by)}")
        said = "; salt-call app.orphans lists the mail that is kept" if size_of_queue() else ""

        def act() -> None:
            systemd.switch(UNIT, False)
            if size_of_queue():
                kept.note(self.kind, NAME, "mail of several apps")
            for path in (PASSWORD, UNIT_FILE):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            systemd.read()

        return Step(
            f"The relay {'would be' if run.host.is_dry else 'was'} stopped{said}",
            {UNIT: {"old": "runs", "new": None}},
            act,
        )

    # --- What is kept -------------------------------------------------------------------------------------------------

    def kept(self, host: Host) -> dict[str, dict[str, Any]]:
        """List mail that was not delivered before the relay was stopped."""
        if os.path.exists(UNIT_FILE) or not size_of_queue():
            return {}
        note = kept.of(self.kind, NAME)
        return {
            NAME: {
                "app": note.get("app", "mail of several apps"),
                "size": megabytes(size_of_queue()),
                "since": note.get("since"),
                "remove": "postsuper -d ALL",
            }
        }

    def full(self, host: Host) -> list[str]:
        """Tell that mail is queued for longer than is usual; see ``Resource.full``."""
        found = []
        for name, relay in sorted(self.owned(host.pillar[self.kind]).items()):
            arrived = queue()
            if arrived and (age := time.time() - min(arrived)) > relay["late"] * 60:
                found.append(f"{name} ({len(arrived)} mails are queued, the oldest for {round(age / 60)} minutes)")
        return found


def answers() -> bool:
    """Tell whether the relay greets a client."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, PORT), SETTLED) as client:
        return client.recv(4) == b"220 "
    return False


def _wait() -> None:
    deadline = time.monotonic() + SETTLED
    while not answers():
        if time.monotonic() > deadline:
            raise CommandExecutionError(f"the relay does not answer; journalctl -u {UNIT} says why")
        time.sleep(0.1)


def queue() -> list[int]:
    """Return when each mail that is queued has arrived, in seconds since 1970; none where there is no queue.

    :raises CommandExecutionError: when Postfix cannot tell.
    """
    if not shutil.which("postqueue"):
        return []
    done = subprocess.run(["postqueue", "-j"], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise CommandExecutionError(f"postqueue: {done.stderr.strip()}")
    return [int(json.loads(line)["arrival_time"]) for line in done.stdout.splitlines()]


def size_of_queue() -> int:
    """Return how many bytes of mail are queued."""
    found = 0
    for path in (f"{SPOOL}/{name}" for name in QUEUES):
        for directory, _, names in os.walk(path):
            # One that is delivered meanwhile is gone.
            with contextlib.suppress(FileNotFoundError):
                found += sum(os.lstat(os.path.join(directory, name)).st_size for name in names)
    return found
