"""The pillar of a tree, as commands on an operator's machine read it."""

import contextlib
import dataclasses
import fcntl
import glob
import os
import re
from collections.abc import Iterator
from typing import Any

import yaml

from saltern.refusal import Refusal
from saltern.secrets import files
from saltern.settings.files import unreadable
from saltern.settings.schema import Schema, read_schemas


@dataclasses.dataclass(frozen=True)
class Tree:
    """A checkout.

    :param root: its directory.
    """

    root: str

    @property
    def pillar(self) -> list[str]:
        """The pillar's directories."""
        return [f"{self.root}/pillar"]

    def text(self, name: str) -> str:
        """Return what a file of the pillar holds, of which Salt can read what it says.

        :param name: such as ``hosts.yaml``.
        :raises Refusal: when it is not there or no YAML.
        """
        if broken := unreadable(self.pillar, [name]):
            raise Refusal("\n".join(broken))
        try:
            with open(f"{self.root}/pillar/{name}", encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            raise Refusal(f"pillar/{name}: no such file; run this in a whole checkout of the tree") from None

    def read_yaml(self, name: str) -> Any:
        """Read a file of the pillar.

        :param name: such as ``hosts.yaml``.
        :return: what it says; ``None`` where it holds Jinja.
        :raises Refusal: when it is not there or no YAML.
        """
        text = self.text(name)
        return None if re.search(r"\{[{%#]", text) and not text.startswith("#!yaml") else yaml.safe_load(text) or {}

    def schemas(self, environment: str) -> dict[str, Schema]:
        """Return the formulas' schemas, that of the apps with the names of those that an environment declares."""
        schemas = read_schemas([f"{self.root}/formulas"])
        said = [self.read_yaml("common.sls"), self.read_yaml(f"environments/{environment}.sls")]
        if all(isinstance(one, dict) and isinstance(one.get("app", {}), dict) for one in said):
            [one_app] = schemas["app"]["patternProperties"].values()
            names = {name for one in said for name in one.get("app", {})}
            schemas["app"] |= {"properties": dict.fromkeys(names, one_app), "patternProperties": {}}
        return schemas

    def _in(self, environment: str) -> list[str]:
        rows = sorted(self.read_yaml("hosts.yaml").items())
        return [id for id, row in rows if row.get("environment") == environment]

    def hosts_of(self, environment: str) -> list[str]:
        """Return the ids of an environment's hosts, sorted.

        :raises Refusal: when it has none.
        """
        names = self._in(environment)
        if not names:
            raise Refusal(f"{environment}: no host is in it; expected a row for one in pillar/hosts.yaml")
        return names

    def files_of(self, environment: str) -> dict[str, list[str]]:
        """List an environment's files that hold secrets.

        :param environment: its name.
        :return: a mapping of name, below ``pillar/``, to the ids of the hosts that shall read it.
        """
        hosts = self._in(environment)
        own = {files.certificates(environment, id): [id] for id in hosts}
        there = sorted(glob.glob(f"certificates/{environment}/*.sls", root_dir=f"{self.root}/pillar"))
        return {f"secrets/{environment}.sls": hosts} | {name: own.get(name, []) for name in there}

    @contextlib.contextmanager
    def only_one(self) -> Iterator[None]:
        """Let no other run change the files."""
        lock = os.open(f"{self.root}/pillar/secrets", os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
