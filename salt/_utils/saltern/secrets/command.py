"""The command ``bin/secret``."""

import argparse
import getpass
import glob
import os
import secrets
import string
from collections.abc import Collection, Mapping, Sequence

from saltern import commands, environments
from saltern.refusal import Refusal
from saltern.secrets.importing import import_config
from saltern.secrets.keys import (
    Gpg,
    Reader,
    encrypt,
    is_stale,
    names_of,
    new_gpg,
    readers_of,
    recipients,
    throw_away_gpg,
)
from saltern.secrets.names import judge_name, judge_value
from saltern.secrets.tree import Tree
from saltern.secrets.values import Path, read_secrets, with_values, without_values, write_secrets
from saltern.settings.messages import dotted

DESCRIPTION = "Write the encrypted settings of an environment: pillar/secrets/<environment>.sls, outside dev."

# What no shell, URL or configuration file takes for anything else.
ALPHABET = string.ascii_letters + string.digits

HELP = """\
`set` takes the value from a prompt, twice, or from standard input, where one line break at the end is left out. It is
never an argument and never in a file in clear. `rekey` decrypts with your own key (GNUPGHOME), all values or none.

examples:
  secret set --environment production app.tickets.config.SECRET_KEY
  secret set --environment production app.shop.config.TLS_KEY <key.pem
  secret set --environment production --generate 50 app.shop.config.SECRET_KEY
  secret import --environment production --app shop .env
  secret remove --environment production app.shop
  secret rekey --environment production
  secret check

Exit codes: 0, 1 for what was refused, with the reason, 2 for a command line that cannot be read."""


def read_value(name: str) -> str:
    """Return a value from a prompt or from standard input, as text.

    :param name: whose value it is.
    :raises Refusal: when no host would get it as it was given.
    """
    if os.isatty(0):
        typed = [getpass.getpass(prompt) for prompt in (f"{name}: ", f"{name}, once more: ")]
        if typed[0] != typed[1]:
            raise Refusal(f"{name}: not the same twice; nothing was changed, run it again")
        given = os.fsencode(typed[0])
    else:
        with open(0, "rb", closefd=False) as stream:
            given = stream.read().removesuffix(b"\n")
    try:
        value = given.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(f"{name}: not in UTF-8; expected text in UTF-8, such as what base64 makes of it") from None
    if not value:
        raise Refusal(f"{name}: no value; expected one, from a prompt or from standard input")
    # Salt's gpg renderer takes all of them away.
    if value.endswith("\n"):
        raise Refusal(f"{name}: ends with an empty line, which would not reach the host; expected a value without it")
    return value


def invented(length: int) -> str:
    """Return letters and digits by chance: some 6 bits each.

    :param length: how many.
    """
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _length(text: str) -> int:
    """Read a length for ``invented``. 16 characters have 95 bits."""
    if not text.isdecimal() or not 16 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError("expected a number of characters from 16 to 1024")
    return int(text)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def set_value(tree: Tree, options: argparse.Namespace) -> None:
    """Encrypt a value and write it into the environment's secrets file."""
    name, environment = options.name, options.environment
    schemas, file = tree.schemas(environment), f"secrets/{environment}.sls"
    judge_name(schemas, name)
    with throw_away_gpg() as gpg:
        readers = readers_of(tree, tree.hosts_of(environment), gpg)
        read_secrets(tree, file, environment)
        value = invented(options.generate) if options.generate else read_value(name)
        judge_value(schemas, name, value)
        message = encrypt(value.encode(), readers, gpg)
    with tree.only_one():
        text, _ = read_secrets(tree, file, environment)
        write_secrets(tree, {file: with_values(text, {tuple(name.split(".")): message})})
    print(f"pillar/{file}: {name} is written; it can be read by {names_of(readers)}")


def remove_value(tree: Tree, options: argparse.Namespace) -> None:
    """Remove a value, or all below a path, from the environment's secrets file."""
    file, path = f"secrets/{options.environment}.sls", tuple(options.name.split("."))
    with tree.only_one():
        text, messages = read_secrets(tree, file, options.environment)
        gone = [one for one in messages if one[: len(path)] == path]
        if text is None or not gone:
            known = ", ".join(sorted({dotted(one) for one in messages}))
            cure = f"expected one of {known}, or what they begin with" if known else "which holds no secret"
            raise Refusal(f"{options.name}: not in pillar/{file}{'; ' if known else ', '}{cure}")
        write_secrets(tree, {file: without_values(text, path)})
    for one in sorted(gone):
        print(f"pillar/{file}: {dotted(one)} is removed")
    print("Whoever could read a value has had it: where it opens something, change it there")


def rekey(tree: Tree, options: argparse.Namespace) -> None:
    """Encrypt the values anew that are encrypted to other keys than those of their readers now."""
    if os.isatty(0):
        os.environ.setdefault("GPG_TTY", os.ttyname(0))
    texts: dict[str, str] = {}
    said: list[str] = []
    with tree.only_one(), throw_away_gpg() as gpg:
        own = new_gpg()
        asked = [options.environment] if options.environment else environments.kept(tree.pillar)
        for environment, file, hosts in [(one, *pair) for one in asked for pair in tree.files_of(one).items()]:
            text, messages = read_secrets(tree, file, environment)
            if not hosts and not file.startswith("secrets/"):
                said.append(f"pillar/{file}: of no host of {environment}; run bin/issue-certificates {environment}")
                continue
            if not messages:
                said.append(f"pillar/{file}: no secrets")
                continue
            readers = readers_of(tree, hosts or tree.hosts_of(environment), gpg)
            stale = {path: message for path, message in messages.items() if is_stale(message, readers, gpg)}
            said.append(f"pillar/{file}: {len(stale)} of {len(messages)} values encrypted anew; ")
            said[-1] += f"they can be read by {names_of(readers)}"
            if stale:
                values = decrypted(file, stale, own)
                anew = {path: encrypt(value, readers, gpg) for path, value in values.items()}
                texts[file] = with_values(text, anew)
                said += departed(stale, readers, own, gpg)
        write_secrets(tree, texts)
    print("\n".join(said))


def decrypted(file: str, messages: Mapping[Path, str], own: Gpg) -> dict[Path, bytes]:
    """Decrypt messages with the operator's own key.

    :param file: where they stand.
    :param messages: a mapping of path to PGP message.
    :param own: gpg on the operator's directory.
    :return: a mapping of path to bytes.
    :raises Refusal: when one cannot be decrypted, with the paths of all such.
    """
    values: dict[Path, bytes] = {}
    found: list[str] = []
    for path, message in messages.items():
        result = own.decrypt(message)
        values[path] = result.data
        if not result.ok or result.returncode:
            found.append(
                f"{dotted(path)}: pillar/{file}: cannot be decrypted with a key of yours "
                f"({result.status or 'no reason given'}); expected to be run by an operator who can read it"
            )
    if found:
        raise Refusal("\n".join(found))
    return values


def departed(messages: Mapping[Path, str], readers: Collection[Reader], own: Gpg, gpg: Gpg) -> list[str]:
    """Say who could read messages and no longer shall.

    :param messages: a mapping of path to PGP message, as they were.
    :param readers: who shall.
    :param own: gpg on the operator's directory, which may know the keys of those who have left.
    :param gpg: gpg on any directory.
    :return: a list of lines.
    """
    known = frozenset[str]().union(*(reader.key_ids for reader in readers))
    left: dict[str, list[str]] = {}
    for path, message in messages.items():
        for id in recipients(message, gpg) - known:
            left.setdefault(id, []).append(dotted(path))
    lines = []
    for id, paths in sorted(left.items()):
        uids = [uid for key in own.list_keys(keys=[id]) for uid in key["uids"]]
        lines.append(
            f"no longer by key {id}{f' ({uids[0]})' if uids else ''}, which has had them; change these values: "
            + ", ".join(paths)
        )
    return lines


def check(tree: Tree, options: argparse.Namespace) -> None:
    """Refuse secrets that are not encrypted to the keys of those who shall read them."""
    found = []
    hosts = tree.read_yaml("hosts.yaml")
    for key in sorted(glob.glob("pillar/keys/hosts/*.asc", root_dir=tree.root)):
        if os.path.basename(key).removesuffix(".asc") not in hosts:
            found.append(f"{key}: no host of pillar/hosts.yaml has this id; remove it and run make secrets-rekey")
    with throw_away_gpg() as gpg:
        for environment, file, hosts in [
            (one, *pair) for one in environments.kept(tree.pillar) for pair in tree.files_of(one).items()
        ]:
            if not hosts and not file.startswith("secrets/"):
                found.append(f"pillar/{file}: of no host of {environment}; run bin/issue-certificates {environment}")
                continue
            try:
                _, messages = read_secrets(tree, file, environment)
                readers = readers_of(tree, hosts or tree.hosts_of(environment), gpg) if messages else []
            except Refusal as refusal:
                found.append(str(refusal))
                continue
            for path, message in messages.items():
                if is_stale(message, readers, gpg):
                    found.append(
                        f"{dotted(path)}: pillar/{file}: not encrypted to the keys of "
                        f"{names_of(readers)}, and no others; run make secrets-rekey"
                    )
    if found:
        raise Refusal("\n".join(found))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line; the process ends where it cannot be read."""
    parser = commands.parser("secret", DESCRIPTION, HELP)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    setter = subcommands.add_parser("set", help="encrypt a value and write it", allow_abbrev=False)
    setter.add_argument("name", metavar="NAME", help="a setting's path, such as app.tickets.config.SECRET_KEY")
    setter.add_argument("--environment", required=True, metavar="ENV", help="staging or production")
    setter.add_argument("--generate", type=_length, metavar="LENGTH", help="invent so many letters and digits")
    setter.set_defaults(command=set_value)
    importer = subcommands.add_parser("import", help="write an app's config from a file", allow_abbrev=False)
    importer.add_argument("file", metavar="FILE", help="lines NAME=value, or JSON as of Heroku; - for standard input")
    importer.add_argument("--app", required=True, help="the app, such as shop")
    importer.add_argument("--environment", required=True, metavar="ENV", help="such as production")
    for word, is_in in (("secret", "encrypted"), ("plain", "in clear")):
        importer.add_argument(
            f"--{word}", type=_names, default=[], metavar="NAMES", help=f"variables to write {is_in}, with commas"
        )
    importer.set_defaults(command=import_config, takes_ephemeral=True)
    remover = subcommands.add_parser("remove", help="remove a value, or all below a path", allow_abbrev=False)
    remover.add_argument("name", metavar="NAME", help="a path, such as app.shop.config.KEY, or app.shop for all of it")
    remover.add_argument("--environment", required=True, metavar="ENV", help="staging or production")
    remover.set_defaults(command=remove_value)
    anew = subcommands.add_parser("rekey", help="encrypt anew, after who may read has changed", allow_abbrev=False)
    anew.add_argument("--environment", metavar="ENV", help="only this one's")
    anew.set_defaults(command=rekey)
    checker = subcommands.add_parser("check", help="refuse what others can read than should", allow_abbrev=False)
    checker.set_defaults(command=check, environment=None)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], root: str) -> int:
    """Run the command line.

    :param arguments: what follows the command's name.
    :param root: the directory of the tree.
    :return: an exit code: 0, or 1 for a refusal.
    """
    options, tree = parse_arguments(arguments), Tree(root)

    def work() -> None:
        asked, kept = options.environment, environments.kept(tree.pillar)
        named = environments.names(tree.pillar)
        taken = named if getattr(options, "takes_ephemeral", False) else kept
        if asked in named and asked not in taken:
            raise Refusal(
                f"ENV: {asked}'s secrets are none and stand in clear in pillar/secrets/{asked}.sls; edit that file"
            )
        if asked not in (None, *taken):
            raise Refusal(f"ENV: no environment has this name; expected one of {', '.join(taken)}")
        options.command(tree, options)

    return commands.run("secret", work, "nothing was changed, mend that", "interrupted; nothing was changed")
