"""What one host knows: its settings, its key, and what Salt can be asked there."""

import dataclasses
import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern import apps, services
from saltern.services.base import Ask, Target
from saltern.services.resource import Resource
from saltern.settings import load

# The user of a resource by which the host itself asks it. No app can have this name.
OPERATOR = "operator"


@dataclasses.dataclass(frozen=True)
class Lent:
    """How an app has a resource of another one.

    :param app: the app.
    :param access: ``read`` or ``whole``.
    :param login: by which it comes in.
    :param password: its password.
    """

    app: str
    access: str
    login: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Host:
    """A host that converges.

    :param id: its id.
    :param pillar: its settings by formula, complete, and its own row as ``hosts``.
    :param key_file: the file of its key, which ``bootstrap.sh`` makes.
    :param is_dry: whether nothing may change.
    :param ask: calls a function of Salt.
    """

    id: str
    pillar: Mapping[str, Any]
    key_file: str
    is_dry: bool
    ask: Ask

    @classmethod
    def of(cls, functions: Mapping[str, Any], pillar: Mapping[str, Any], options: Mapping[str, Any]) -> "Host":
        """Return the host on which Salt runs.

        :param functions: ``__salt__``.
        :param pillar: ``__pillar__``.
        :param options: ``__opts__``.
        :raises CommandExecutionError: when the pillar has a mistake.
        """
        load.check(pillar)
        key_file = os.path.join(os.path.dirname(options.get("conf_file", "")), "host.key")
        is_dry = bool(options.get("test"))

        def ask(name: str, *arguments: Any, **named: Any) -> Any:
            return functions[name](*arguments, **named)

        return cls(options.get("id", ""), pillar, key_file, is_dry, ask)

    @property
    def roles(self) -> list[str]:
        """Its roles."""
        return list(self.pillar["hosts"][self.id]["roles"])

    @property
    def address(self) -> str:
        """The address at which others reach it."""
        return str(self.pillar["hosts"][self.id]["address"])

    def run(self, command: Sequence[str]) -> str:
        """Run a command, and return what it prints, whatever its exit code.

        :param command: its words.
        """
        options = {"python_shell": False, "ignore_retcode": True, "output_loglevel": "quiet"}
        return str(self.ask("cmd.run_stdout", command, **options))

    def app(self, app: str) -> dict[str, Any]:
        """Return the settings of an app.

        :raises CommandExecutionError: when no app of this host has the name.
        """
        return dict(apps.declared(self.pillar["app"], app))

    def attach(self, app: str) -> dict[str, Target]:
        """Return what an app attaches, by variable.

        :raises CommandExecutionError: when no app of this host has the name.
        """
        return dict(self.app(app)["attach"])

    def settings(self, formula: str) -> dict[str, Any]:
        """Return the settings of a formula, without the resources that a URL replaces."""
        return load.settings(self.pillar, formula)

    def resource(self, service: Resource, name: str) -> dict[str, Any]:
        """Return the settings of a resource.

        :raises CommandExecutionError: when no resource of the service has this name.
        """
        known = self.pillar[service.kind][service.plural]
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise CommandExecutionError(
                f"{name}: no {service.noun} that an app attaches has this name; expected one of {names}"
            )
        return dict(known[name])

    def password(self, service: Resource, name: str) -> str:
        """Return the password of a resource: the pillar's, or this host's own.

        :raises CommandExecutionError: when the host has no key, or no app logs in to the service.
        """
        resource = self.resource(service, name)
        if not service.has_password:
            raise CommandExecutionError(f"{name}: a {service.noun} has no password and no login")
        given = resource.get("password")
        return self.own_password(service.kind, name) if given is None else str(given)

    def own_password(self, kind: str, name: str) -> str:
        """Return a password that only this host needs.

        :param kind: a service, or ``operator``.
        :param name: a resource.
        :raises CommandExecutionError: when the host has no key.
        """
        try:
            with open(self.key_file, encoding="ascii") as stream:
                key = stream.read().strip()
        except FileNotFoundError:
            key = ""
        if not key:
            raise CommandExecutionError(
                f"{self.key_file}: missing; expected this host's key, which bootstrap.sh makes: run it"
            )
        return derive_password(key, kind, name)

    def login(self, service: Resource, name: str) -> str:
        """Return by which login an app comes to a resource, as declared.

        :raises CommandExecutionError: when the host has no key.
        """
        return service.login(self.resource(service, name)["owner"], self.password(service, name))

    def secret(self, target: Target, app: str) -> str:
        """Return the password of an attachment, empty where it has none.

        :param target: one entry of an app's ``attach``, completed.
        :param app: the app's name.
        """
        service = services.named(target)
        if not isinstance(service, Resource) or not service.has_password:
            return ""
        name, access = target[service.kind], target.get("access")
        return self.lent_password(service, name, app, access) if access else self.password(service, name)

    def lent_password(self, service: Resource, name: str, app: str, access: str) -> str:
        """Return the password by which an app has a resource of another one.

        It follows from the owner's, so that all hosts that know that one know it, and another one of the owner's is
        another one of each borrower. The owner's does not follow from it.

        :param service: the service.
        :param name: the resource's name.
        :param app: the app that borrows it.
        :param access: ``read`` or ``whole``.
        """
        return derive_password(self.password(service, name), f"{service.kind}/{name}/{access}", app)

    def lent(self, service: Resource, name: str) -> list[Lent]:
        """List to whom a resource is lent, sorted by app.

        :param service: the service.
        :param name: the resource's name.
        """
        found = []
        for app, access in sorted(self.resource(service, name).get("borrowers", {}).items()):
            password = self.lent_password(service, name, app, access)
            found.append(Lent(app, access, service.login(app, password), password))
        return found


def derive_password(key: str, kind: str, name: str) -> str:
    """Derive a password that only one host needs from that host's key.

    :param key: the host's key, as text.
    :param kind: a service, or ``operator``.
    :param name: the resource's name.
    :return: 40 hexadecimal digits, 160 bits.
    """
    return hmac.new(key.encode(), f"{kind}/{name}".encode(), hashlib.sha256).hexdigest()[:40]
