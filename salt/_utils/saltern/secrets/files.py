"""Secrets: ``pillar/secrets/<environment>.sls`` of each environment whose hosts stay: PGP messages to the hosts' keys.

A host's private key is one too, to that host alone, in ``pillar/certificates/<environment>/<host>.sls``.

Salt's gpg renderer decrypts them before the pillar is checked. Of a message that it cannot decrypt it says only that
rendering failed; and it does not look at gpg's exit code, so that of a damaged one it takes for the value whatever gpg
printed before it gave up. What is wrong, and where, is found out here.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import os
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import salt.utils.yaml
from salt.exceptions import CommandExecutionError

from saltern import environments
from saltern.settings.messages import dotted
from saltern.settings.schema import Schema

# Keys, outermost first.
Path = tuple[Any, ...]

HEADER = "#!yaml|gpg"
# What stands beside a host's private key, and is no secret.
PLAIN = (("certificates", "authorities"), ("certificates", "certificate"))
MESSAGE = re.compile(
    r"-----BEGIN PGP MESSAGE-----\n(?:[^\n]+\n)*\n(?P<body>(?:[A-Za-z0-9+/=]+\n)+)=(?P<checksum>[A-Za-z0-9+/]{4})\n"
    r"-----END PGP MESSAGE-----\n*"
)


@dataclasses.dataclass(frozen=True)
class Keyring:
    """A directory of gpg.

    :param directory: with the host's key.
    :param is_alone: whether nobody else uses it at the same time, so that its agent may be ended.
    """

    directory: str
    is_alone: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Keyring:
        """Return the one that Salt's options name.

        A master has one agent for all its workers, and who verifies a host has an agent that knows passphrases. A
        host's own directory lies beside its configuration.

        :param options: ``__opts__``.
        """
        directory = options.get("gpg_keydir", "")
        is_own = os.path.dirname(directory) == os.path.dirname(options.get("conf_file", ""))
        return cls(directory, is_own and options.get("__role") != "master")


def certificates(environment: str, minion_id: str) -> str:
    """Return the name of the pillar file that holds a host's certificate.

    :param environment: the host's.
    :param minion_id: the host's id. Salt takes a dot for a directory, and no id has an underscore.
    """
    return f"certificates/{environment}/{minion_id.replace('.', '_')}.sls"


def mistakes(
    roots: Sequence[str], environment: str, minion_id: str, pillar: Any, schemas: Mapping[str, Schema], keyring: Keyring
) -> list[str]:
    """List what is wrong with the secrets of an environment, as one of its hosts sees them.

    :param roots: directories, in the order of the pillar roots.
    :param environment: the host's. What is in an ephemeral one's file is no secret.
    :param minion_id: the host's id.
    :param pillar: what the pillar files say, decrypted by Salt as far as it could.
    :param schemas: a mapping of formula to JSON Schema.
    :param keyring: by which Salt decrypted it.
    :return: a message for each mistake, sorted by path.
    :raises CommandExecutionError: with these messages, where Salt could not decrypt one. It adds them to what it has to
        say itself; mistakes that are returned it would replace.
    """
    if environments.is_ephemeral(roots, environment):
        return []
    names = {f"secrets/{environment}.sls": (), certificates(environment, minion_id): PLAIN}
    values: dict[Path, Any] = {}
    found: dict[str, dict[Path, str]] = {}
    good: dict[Path, tuple[str, str]] = {}
    for name, plain in names.items():
        for _, text in texts(roots, [name]):
            said = {path: one for path, one in leaves(salt.utils.yaml.safe_load(text)) if path not in plain}
            found[name] = judged(text, plain)
            values |= said
            if () not in found[name]:
                good |= {path: (name, one) for path, one in said.items() if path not in found[name]}
    # Without gpg_decrypt_must_succeed Salt hands the message on, without its last line break.
    failed = any(_value_at(pillar, path) in (None, good.get(path, ("", ""))[1].rstrip("\n")) for path in values)
    if failed:
        for path, (name, message) in good.items():
            if reason := why_locked(message, keyring.directory, minion_id):
                found[name][path] = reason
        if not any(found.values()):
            found[next(iter(found))] = {(): "could not be decrypted a moment ago, and can be now; run it again"}
    if good and keyring.is_alone:
        _stop_agent(keyring.directory)

    messages = [message for name, reasons in found.items() for message in told(reasons, name, environment)]
    shared = texts(roots, ["common.sls", *(f"{kind}/{environment}.sls" for kind in ("environments", "builds"))])
    for path, where in in_plain_text(shared, pillar, values, schemas).items():
        command = f"make secret ENV={environment} NAME={dotted(path)}"
        messages.append(
            f"{dotted(path)}: {where}: in plain text; expected it encrypted: write it with {command}, and remove it "
            "there"
        )
    if failed:
        raise CommandExecutionError("\n".join(sorted(messages)))
    return sorted(messages)


def told(found: Mapping[Path, str], name: str, environment: str) -> list[str]:
    """Write what was found in a secrets file as messages.

    :param found: a mapping of path to what is wrong there; the empty path is the file's. ``{command}`` stands for what
        writes the value.
    :param name: of the file, below the pillar's root.
    :param environment: whose file it is.
    :return: a list of messages.
    """
    said = []
    for path, reason in found.items():
        command = f"make secret ENV={environment} NAME={dotted(path)}"
        if not name.startswith("secrets/"):
            command = f"bin/issue-certificates {environment}"
        said.append(f"{dotted(path)}: pillar/{name}: {reason.replace('{command}', command)}".removeprefix(": "))
    return said


def _stop_agent(directory: str) -> None:
    # gpg starts one and leaves it there for good. Another run starts one of its own.
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["gpgconf", "--homedir", directory, "--kill", "gpg-agent"], capture_output=True, check=False)


def texts(roots: Sequence[str], names: Sequence[str]) -> list[tuple[str, str]]:
    """Read pillar files.

    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them, in UTF-8; each need not be there.
    :return: pairs of a file's name, as people know it, and its text.
    """
    found = []
    for root, name in itertools.product(roots, names):
        if os.path.exists(path := os.path.join(root, name)):
            with open(path, encoding="utf-8") as stream:
                found.append((f"pillar/{name}", stream.read()))
    return found


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield a pair of path and value for all that is no mapping.

    :param tree: what a pillar file says.
    :param path: keys, outermost first.
    """
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif path:
        yield path, tree


def judged(text: str, plain: Collection[Path] = ()) -> dict[Path, str]:
    """Find what in a secrets file is no whole PGP message.

    :param text: a YAML file.
    :param plain: paths of what may stand in it as it is.
    :return: a mapping of path to what is wrong there, for ``told``.
    """
    values = {path: value for path, value in leaves(salt.utils.yaml.safe_load(text)) if path not in plain}
    if values and text.partition("\n")[0].rstrip() != HEADER:
        return {(): f"line 1: expected {HEADER}, by which Salt decrypts the file"}
    found = {}
    for path, value in values.items():
        if not isinstance(value, str) or not value.startswith("-----BEGIN PGP MESSAGE-----\n"):
            found[path] = "not encrypted; write it with {command}"
        elif not is_whole(value):
            found[path] = "damaged: it is not what was encrypted; write it again with {command}"
    return found


def is_whole(message: str) -> bool:
    """Return whether a PGP message is what gpg wrote, by its own checksum.

    :param message: text, in ASCII armor.
    """
    armor = MESSAGE.fullmatch(message)
    if not armor:
        return False
    try:
        data = base64.b64decode(armor["body"])
    except ValueError:
        return False
    return crc24(data) == int.from_bytes(base64.b64decode(armor["checksum"]), "big")


def crc24(data: bytes) -> int:
    """Return the checksum of ASCII armor, as in RFC 4880, section 6.1.

    :param data: bytes.
    """
    checksum = 0xB704CE
    for byte in data:
        checksum = (checksum << 8 & 0xFFFFFF) ^ CRC24[checksum >> 16 ^ byte]
    return checksum


def _crc24_of(byte: int) -> int:
    checksum = byte << 16
    for _ in range(8):
        checksum = checksum << 1 ^ (0x1864CFB if checksum & 0x800000 else 0)
    return checksum


CRC24 = [_crc24_of(byte) for byte in range(256)]


def in_plain_text(
    shared: Iterable[tuple[str, str]], pillar: Any, encrypted: Collection[Path], schemas: Mapping[str, Schema]
) -> dict[Path, str]:
    """Find secrets that stand in other files than the secrets file.

    :param shared: pairs of name and text of these files. Those that hold Jinja are judged by what is in the pillar.
    :param pillar: what all files say.
    :param encrypted: the paths of the secrets file.
    :param schemas: a mapping of formula to JSON Schema.
    :return: a mapping of path to the file.
    """
    schema = {"properties": schemas}
    found = {path: "the pillar" for path in secrets_in(schema, pillar) if path not in encrypted}
    for name, text in shared:
        if text.startswith("#!yaml") or not re.search(r"\{[{%#]", text):
            found |= {path: name for path in secrets_in(schema, salt.utils.yaml.safe_load(text))}
    return found


def secrets_in(schema: Schema, value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each secret in a value: what its schema marks so, but for a URL without a password.

    :param schema: a JSON Schema; its ``properties`` and ``patternProperties`` are followed.
    :param value: what the pillar says; it need not fit the schema.
    :param path: keys, outermost first.
    """
    if schema.get("secret"):
        if isinstance(value, str) and not (path[-1] == "url" and _has_no_password(value)):
            yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            patterns = schema.get("patternProperties", {}).items()
            part = schema.get("properties", {}).get(key)
            part = part or next((part for pattern, part in patterns if re.search(pattern, str(key))), {})
            yield from secrets_in(part, item, (*path, key))


def _has_no_password(url: str) -> bool:
    try:
        return urlsplit(url).password is None
    except ValueError:
        return False


def why_locked(message: str, directory: str, minion_id: str) -> str:
    """Say why a PGP message cannot be decrypted.

    :param message: text, in ASCII armor.
    :param directory: gpg's, with the host's key.
    :param minion_id: the host's id.
    :return: the reason, or an empty string where it can be decrypted.
    """
    if not os.path.isdir(os.path.join(directory, "private-keys-v1.d")):
        return f"cannot be decrypted: this host ({minion_id}) has no key; run bootstrap.sh, which makes one"
    command = ["gpg", "--homedir", directory, "--batch", "--no-tty", "--status-fd", "2", "--decrypt"]
    try:
        done = subprocess.run(command, input=message.encode(), capture_output=True, check=False)
    except FileNotFoundError:
        return "cannot be decrypted: gpg is not installed; run bootstrap.sh"
    if done.returncode == 0 and done.stdout:
        return ""
    if done.returncode == 0:
        return "there is nothing in it; write it again with {command}"
    if b"NO_SECKEY" in done.stderr:
        return (
            f"cannot be decrypted with this host's key ({minion_id}); expected that key in "
            f"pillar/keys/hosts/{minion_id}.asc, and make secrets-rekey after it"
        )
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("gpg: ")]
    return f"cannot be decrypted ({said[-1] if said else 'gpg says no reason'}); write it again with {{command}}"


def _value_at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
