"""RabbitMQ: a vhost for the app that attaches it."""

from __future__ import annotations

import contextlib
import datetime
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, unquote

from salt.exceptions import CommandExecutionError

from saltern import kept
from saltern.attachments import users
from saltern.host import Host
from saltern.services import rabbitmq_broker as broker
from saltern.services.base import LOOPBACK, Requisite, Settings, Target
from saltern.services.networked import Networked
from saltern.services.rabbitmq_broker import PORT, UNIT, Definitions
from saltern.services.resource import is_attached
from saltern.services.steps import Run, Step, Work
from saltern.system.sizes import megabytes


class RabbitMQ(Networked):
    """A vhost of the environment's message broker."""

    kind = "rabbitmq"
    schema = {
        "rabbitmq": {
            "description": "A RabbitMQ vhost of the environment's broker host, for this app alone.",
            "type": "string",
            "pattern": r"^[a-z][a-z0-9-]{0,30}\Z",
            "x-expected": "a vhost's name of lower-case letters, digits and hyphens",
            "examples": ["shop"],
        }
    }
    role = "broker"
    noun = "vhost"
    plural = "vhosts"
    part = "VHOST"
    scheme = "amqps"
    schemes = ("amqps",)
    users = ("rabbitmq", "epmd")
    relied_on = f"{UNIT}.service"

    def refused(self, name: str, app: str) -> str:
        """Refuse an app that would be RabbitMQ's own user."""
        return "guest is RabbitMQ's own user; expected an app of another name" if app == "guest" else ""

    def port(self, name: str, resource: Settings, app: Mapping[str, Any]) -> int:
        """Return the port of the one broker."""
        return PORT

    def listeners(self, settings: Settings) -> dict[str, int]:
        """Return the port of the one broker."""
        return {"rabbitmq": PORT}

    def allowed(self, settings: Settings, places: Callable[[int], int]) -> dict[str, tuple[list[int], int]]:
        """Return the most connections that any app may have to all its vhosts, since all come to one port."""
        most: dict[str, int] = {}
        for name, vhost in self.owned(settings).items():
            most[vhost["owner"]] = most.get(vhost["owner"], 0) + connections(settings, name)
        return {"rabbitmq": ([PORT], max([settings["max_connections"], *most.values()]))}

    def url(self, target: Target, app: str, secret: str) -> str:
        """Return the URL that the app gets. Celery takes none that says whom to trust, or cannot connect by it."""
        return super().url(target, app, secret).removesuffix("?")

    def path(self, target: Target) -> str:
        """Return the vhost."""
        return f"/{quote(target['rabbitmq'], safe='')}"

    def identity(self, url: SplitResult) -> str:
        """Return the vhost."""
        return unquote(url.path[1:])

    def told(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Return nothing: each release that can have a vhost has written down what it attaches."""
        return ""

    def name(self, url: SplitResult, app: str, settings: Mapping[str, Any]) -> str:
        """Return the vhost."""
        return self.identity(url)

    def is_ready(self, host: Host, name: str, login: Callable[[], str]) -> bool:
        """Ask whether a converge would change the vhost or who may come."""
        most, owner = connections(host.settings(self.kind), name), host.resource(self, name)["owner"]
        with contextlib.suppress(CommandExecutionError):
            secret, found = host.password(self, name), broker.definitions()
            return not broker.planned(name, owner, login(), secret, most, found, set())[0]
        return False

    def made(self, name: str) -> Requisite:
        """Return the state that makes the vhost."""
        return {"resource": f"rabbitmq-vhost-{name}"}

    def claimed(self, name: str) -> Requisite:
        """Return the state that makes the vhost."""
        return self.made(name)

    def units(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the broker's unit."""
        return [f"{UNIT}.service"] if settings[self.plural] else []

    def steps(self) -> Mapping[str, Work]:
        """Return what is done to the broker; see ``Resource.steps``."""
        return {"certificate": broker.served, "guest": broker.guest, "vhost": self._vhost, "retired": self._retired}

    def kept(self, host: Host) -> dict[str, dict[str, Any]]:
        """List the vhosts that are closed. One that another app attaches is refused to that app, and so is kept."""
        notes, attached = kept.listed(self.kind), host.settings(self.kind)[self.plural]
        there = {vhost["name"] for vhost in broker.definitions()["vhosts"]} if notes else set()
        found = {}
        for name, what in notes.items():
            if name in there and not is_attached(attached, name, what["app"]):
                note = " ".join(map(shlex.quote, what["notes"]))
                found[name] = {
                    "app": what["app"],
                    "size": megabytes(broker.size(name)),
                    "since": what["since"],
                    "remove": f"rabbitmqctl delete_vhost {shlex.quote(name)} && rm {note}",
                }
        return found

    # --- Steps --------------------------------------------------------------------------------------------------------

    def _vhost(self, run: Run, name: str) -> Step:
        """Have a vhost that is open to its app alone, by a login with the password of the attachment."""
        host = run.host
        settings: Settings = host.pillar[self.kind]
        app, login, secret = settings[self.plural][name]["owner"], *self._login(run, name)
        note = kept.of(self.kind, name)
        if note and note["app"] != app:
            raise CommandExecutionError(broker.anothers(name, app, note["app"]))
        if (found := broker.state_of(run)) is None:
            return Step(f"{UNIT} does not run yet; what is to be changed is seen when it does")
        others = {self._login(run, other)[0] for other in self.owned(settings)} - {login}
        most = connections(settings, name)
        changes, new = broker.planned(name, app, login, secret, most, found, others, handed_over=bool(note))
        if note:
            changes["kept"] = {"old": "kept", "new": "attached"}

        def act() -> None:
            broker.import_(new)
            kept.forget(self.kind, name)

        return Step(f"{app} has the vhost {name}", changes, act)

    def _login(self, run: Run, name: str) -> tuple[str, str]:
        return run.host.login(self, name), run.host.password(self, name)

    def _retired(self, run: Run, name: str) -> Step:
        """Have closed what no app attaches any more, and the logins of passwords that were replaced. Data stays.

        What a release of this host has in its config stays open, and what another host is connected by.
        """
        found = broker.state_of(run)
        if found is None:
            return Step(f"{UNIT} does not run yet; what is to be closed is seen when it does")
        settings: Settings = run.host.pillar[self.kind]
        declared = {self._login(run, one)[0]: one for one in self.owned(settings)}
        own = {LOOPBACK, "::1", run.host.address}
        said, gone, notes = [], set[tuple[str, str]](), dict[str, str]()
        connected: dict[tuple[str, str], set[str]] | None = None
        for vhost, app in sorted(broker.marked(found).items()):
            is_there = is_attached(settings[self.plural], vhost, app)
            logins = [login for login in broker.logins_of(app, vhost, found) if not is_there or login not in declared]
            is_noted = kept.of(self.kind, vhost)
            if not logins and (is_there or is_noted):
                continue
            if connected is None:
                connected = broker.clients()
            if is_there:
                for login in logins:
                    reasons = self._valid(run, login, connected.get((login, vhost), set()), own, found)
                    if reasons:
                        said.append(f"the login {login} stays open for {', '.join(reasons)}")
                    else:
                        gone.add((login, vhost))
                continue
            by = users.users(run.host, self, vhost, run.staying)
            elsewhere = {one for (_, at), hosts in connected.items() if at == vhost for one in hosts} - own
            if by := by or [f"{one}, which is connected" for one in sorted(elsewhere)]:
                said.append(f"{vhost} stays open for {', '.join(by)}")
            else:
                gone |= {(login, vhost) for login in logins}
                notes[vhost] = app
        changes = {vhost: {"old": "open", "new": "closed to logins"} for vhost in notes}
        changes |= {
            login: {"old": "replaced", "new": "closed to logins"} for login, vhost in gone if vhost not in notes
        }

        def act() -> None:
            for vhost, app in notes.items():
                kept.note(self.kind, vhost, app)
            broker.close(gone, found)

        would = "would be" if run.host.is_dry else "was"
        said += [f"{vhost} {would} closed; salt-call app.orphans lists the data that is kept" for vhost in notes]
        return Step("; ".join(said) or "No other vhost or login is open", changes, act)

    def _valid(self, run: Run, login: str, addresses: Iterable[str], own: set[str], found: Definitions) -> list[str]:
        """Say why the login of a password that was replaced stays open; empty where it does not."""
        settings, now = run.host.pillar[self.kind], datetime.datetime.now(datetime.UTC)
        tags = next(user["tags"] for user in found["users"] if user["name"] == login)
        since = [match[1] for match in map(broker.REPLACED.fullmatch, tags) if match]
        until = datetime.datetime.strptime(since[0], broker.TIME).replace(tzinfo=datetime.UTC) if since else now
        until += datetime.timedelta(hours=settings["overlap"] if settings["listen"] else 0)
        by, today = (
            users.holders(run.host, self, leaving, run.staying).get(login, [])
            for leaving in (not run.host.is_dry, True)
        )
        # In a dry run the connections of a release that would be stopped are still open.
        ending = own if run.host.is_dry and today and not by else set[str]()
        at = [f"{one}, which is connected" for one in sorted(set(addresses) - ending)]
        return by or at or ([f"other app hosts until {until.isoformat(timespec='minutes')}"] if until > now else [])


def connections(settings: Mapping[str, Any], name: str) -> int:
    """Return how many connections an app may have at a vhost.

    :param settings: the formula's, complete.
    :param name: the vhost.
    """
    return int(settings["vhosts"].get(name, {}).get("max_connections", settings["max_connections"]))
