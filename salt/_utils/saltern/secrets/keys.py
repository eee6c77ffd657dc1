"""The keys to which secrets are encrypted: those of hosts, of Salt masters and of all operators, in ``pillar/keys``."""

import contextlib
import dataclasses
import glob
import logging
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import gnupg
import psutil

from saltern.refusal import Refusal
from saltern.secrets.tree import Tree

# What the library gnupg makes of gpg on a directory of keys.
Gpg = Any


@dataclasses.dataclass(frozen=True)
class Reader:
    """A host or an operator who shall be able to decrypt, by the key in a file of pillar/keys."""

    name: str
    fingerprint: str
    key_ids: frozenset[str]
    public: bytes


def new_gpg(directory: str | None = None) -> Gpg:
    """Return gpg on a directory of public keys, or on the user's own where none is given."""
    # What it encrypts is in its log.
    logging.getLogger("gnupg").setLevel(logging.CRITICAL)
    try:
        # Public keys need no agent, which would outlive the directory for a while.
        return gnupg.GPG(gnupghome=directory, options=["--no-autostart"] if directory else None)
    except OSError:
        raise Refusal("gpg: not installed; install Debian's gnupg") from None


def readers_of(tree: Tree, names: Sequence[str], gpg: Gpg) -> list[Reader]:
    """Read the keys to which secrets are encrypted: those of hosts, of the Salt masters, and of all operators.

    A master decrypts for all environments. Where there is one, a host without a key in pillar/keys is told by it alone.

    :param tree: the tree whose keys they are.
    :param names: the hosts' ids.
    :param gpg: gpg on a directory that may be thrown away, into which they are imported.
    :return: a list of ``Reader``.
    :raises Refusal: with all that keeps keys from being used.
    """
    masters = {id for id, row in tree.read_yaml("hosts.yaml").items() if "master" in row.get("roles", ())}
    paths = {f"pillar/keys/hosts/{name}.asc": f"host {name}" for name in sorted({*names, *masters})}
    if masters:
        told = {f"pillar/keys/hosts/{name}.asc" for name in set(names) - masters}
        told = {path for path in told if not os.path.exists(f"{tree.root}/{path}")}
        paths = {path: name for path, name in paths.items() if path not in told}
    operators = sorted(glob.glob("pillar/keys/operators/*.asc", root_dir=tree.root))
    paths |= {path: f"operator {os.path.basename(path).removesuffix('.asc')}" for path in operators}
    readers: list[Reader] = []
    found: list[str] = []
    if not operators:
        found.append(
            "pillar/keys/operators: no operator's key, without which nobody could encrypt anew what hosts read; "
            "expected yours: gpg --armor --export YOU >pillar/keys/operators/YOU.asc"
        )
    for path, name in paths.items():
        try:
            readers.append(read_key(tree, path, name, gpg))
        except Refusal as refusal:
            found.append(f"{path}: {refusal}")
    if found:
        raise Refusal("\n".join(found))
    return readers


def read_key(tree: Tree, path: str, name: str, gpg: Gpg) -> Reader:
    """Read a public key.

    :param tree: the tree whose key it is.
    :param path: of its file, in the tree.
    :param name: whose it is.
    :param gpg: gpg on a directory that may be thrown away.
    :return: a ``Reader``.
    :raises Refusal: when it is not one key that can be encrypted to, without the file's name.
    """
    export = "what `gpg --armor --export` prints"
    try:
        with open(f"{tree.root}/{path}", "rb") as stream:
            public = stream.read()
    except FileNotFoundError:
        source = "the public key that bootstrap.sh prints on it" if name.startswith("host ") else export
        raise Refusal(f"no such file; expected {source}") from None
    if b"PRIVATE KEY" in public:
        raise Refusal("a private key! Expected a public one; remove it, also from git, and make a new key")
    keys = gpg.scan_keys_mem(public)
    if len(keys) != 1:
        raise Refusal(f"holds {len(keys)} keys; expected one public key: {export}")
    [key] = keys
    if key["trust"] in ("e", "r"):
        state = {"e": "expired", "r": "revoked"}[key["trust"]]
        raise Refusal(f"the key has {state} ({key['keyid']})" if state == "expired" else f"the key is {state}")
    parts = [key, *key.get("subkey_info", {}).values()]
    encrypting = frozenset(one["keyid"] for one in parts if "e" in one["cap"] and one["trust"] not in ("e", "r"))
    if not encrypting:
        raise Refusal("nothing can be encrypted to this key; expected one with a subkey for encryption that is valid")
    gpg.import_keys(public)
    return Reader(name, key["fingerprint"], encrypting, public)


def recipients(message: str, gpg: Gpg) -> set[str]:
    """Return the ids of the keys that a message is encrypted to."""
    return set(gpg.get_recipients(message))


def is_stale(message: str, readers: Collection[Reader], gpg: Gpg) -> bool:
    """Return whether a message is encrypted to other keys than those of its readers."""
    found = recipients(message, gpg)
    known = frozenset[str]().union(*(reader.key_ids for reader in readers))
    return not found <= known or not all(found & reader.key_ids for reader in readers)


def encrypt(value: bytes, readers: Collection[Reader], gpg: Gpg) -> str:
    """Return the PGP message of a value.

    :param value: bytes.
    :param readers: who shall be able to decrypt it.
    :param gpg: gpg on a directory with their keys.
    :raises Refusal: when gpg does not make one.
    """
    result = gpg.encrypt(value, [reader.fingerprint for reader in readers], always_trust=True)
    if not result.ok or result.returncode:
        raise Refusal(f"gpg could not encrypt it ({result.status or 'it says no reason'}); look at pillar/keys")
    return str(result)


@contextlib.contextmanager
def throw_away_gpg() -> Iterator[Gpg]:
    """Yield gpg on an empty directory of keys."""
    with tempfile.TemporaryDirectory(prefix="secret-") as directory:
        try:
            yield new_gpg(directory)
        finally:
            # An interrupted run leaves gpg at work, which would write into the directory while that is removed.
            children = psutil.Process().children()
            for child in children:
                child.kill()
            psutil.wait_procs(children)


def names_of(readers: Collection[Reader]) -> str:
    """Return the names of those who can read, in words."""
    return ", ".join(reader.name for reader in readers)
