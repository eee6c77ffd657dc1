"""``bin/secret import``: an app's config, from a file that people have, into the pillar of an environment."""

import argparse
import os
from collections.abc import Iterable, Mapping

from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from saltern import environments
from saltern.refusal import Refusal
from saltern.secrets.keys import encrypt, names_of, readers_of, throw_away_gpg
from saltern.secrets.names import judge_name, judge_value
from saltern.secrets.tree import Tree
from saltern.secrets.values import Path, read_secrets, with_values, without_values, write_secrets
from saltern.secrets.variables import JINJA, is_secret, parsed

# Set by Saltern or by a shell for each process, and by Heroku for each of its own.
LEFT_OUT = frozenset({"PORT", "PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "_"})
NEW_IN_CLEAR = "#!yaml\n# Nothing here is a secret: these hosts are thrown away.\n"


def import_config(tree: Tree, options: argparse.Namespace) -> None:
    """Write the variables of a file into an environment: secrets encrypted, all others in clear.

    :param tree: the tree.
    :param options: ``app``, ``environment``, ``file``, and the names ``secret`` and ``plain``.
    :raises Refusal: with every variable that cannot be taken. Nothing was changed then.
    """
    app, environment, schemas = options.app, options.environment, tree.schemas(options.environment)
    judge_name(schemas, f"app.{app}.config.NAME")
    values = parsed(_text(options.file), options.file)
    values, said = _without(tree, app, environment, values)
    found = [
        f"{name}: --{word} names it, and {options.file} does not set it; expected one that it sets"
        for word in ("secret", "plain")
        for name in getattr(options, word)
        if name not in values
    ]
    found += [
        f"{name}: is named as secret and as plain; expected one of it" for name in {*options.secret} & {*options.plain}
    ]
    for name, value in values.items():
        try:
            judge_value(schemas, f"app.{app}.config.{name}", value)
        except Refusal as refusal:
            found.append(str(refusal))
    if found:
        raise Refusal("\n".join(sorted(found)))
    if environments.is_ephemeral(tree.pillar, environment):
        said += _write_in_clear(tree, app, environment, values)
    else:
        said += _write(tree, app, environment, values, options)
    print("\n".join(said))


def _text(file: str) -> str:
    """Return what a file holds, or standard input."""
    with open(0 if file == "-" else file, "rb", closefd=file != "-") as stream:
        data = stream.read()
    try:
        # Editors on Windows put a mark before the text.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(f"{file}: not in UTF-8; expected text in UTF-8") from None


def _without(tree: Tree, app: str, environment: str, values: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables without those that Saltern sets, and what is told of these."""
    attached: set[str] = set()
    for name in ("common.sls", f"environments/{environment}.sls"):
        said = tree.read_yaml(name)
        if isinstance(said, dict):
            attached |= {*(((said.get("app") or {}).get(app) or {}).get("attach") or {})}
    reasons = {name: "Saltern sets it" for name in LEFT_OUT}
    reasons |= {name: f"app.{app}.attach.{name} sets it" for name in attached}
    told = [f"{name} is left out: {reasons[name]}" for name in sorted(values) if name in reasons]
    return {name: value for name, value in values.items() if name not in reasons}, told


def _paths(app: str, values: Mapping[str, str]) -> dict[Path, str]:
    return {("app", app, "config", name): value for name, value in values.items()}


def _plain(text: str | None, values: Mapping[Path, str], new: str) -> str:
    """Return a pillar file with values in quotes laid over its own."""
    quoted = {path: DoubleQuotedScalarString(value) for path, value in values.items()}
    return with_values(text, quoted, new)


def _write_in_clear(tree: Tree, app: str, environment: str, values: Mapping[str, str]) -> list[str]:
    """Write all variables into the secrets file of an environment whose hosts are thrown away."""
    file = f"secrets/{environment}.sls"
    with tree.only_one():
        there = os.path.exists(f"{tree.root}/pillar/{file}") and tree.text(file)
        if there and not there.startswith("#!yaml"):
            raise Refusal(f"pillar/{file}: line 1: expected #!yaml, so that no value is taken for Jinja")
        if values:
            write_secrets(tree, {file: _plain(there or None, _paths(app, values), NEW_IN_CLEAR)})
    return [_told(file, values)] if values else []


def _write(tree: Tree, app: str, environment: str, values: Mapping[str, str], options: argparse.Namespace) -> list[str]:
    """Write secrets encrypted, and all others into the environment's own file."""
    file, shared = f"secrets/{environment}.sls", f"environments/{environment}.sls"
    with tree.only_one(), throw_away_gpg() as gpg:
        text, known = read_secrets(tree, file, environment)
        is_kept = {path[-1] for path in known if path[:-1] == ("app", app, "config")}
        secret = {name for name, value in values.items() if is_secret(name, value)} | is_kept | {*options.secret}
        secret = (secret - {*options.plain}) & values.keys()
        own = tree.text(shared)
        if not own.startswith("#!yaml"):
            # Jinja would read them in a file that begins otherwise.
            secret |= {name for name, value in values.items() if JINJA.search(value)}
        plain = {name: value for name, value in values.items() if name not in secret}
        _judge(tree, file, shared, values, secret, plain, is_kept & {*options.plain})
        texts, said = {}, []
        if secret:
            readers = readers_of(tree, tree.hosts_of(environment), gpg)
            messages = {name: encrypt(values[name].encode(), readers, gpg) for name in sorted(secret)}
            texts[file] = with_values(text, _paths(app, messages))
            said.append(f"{_told(file, secret)}; they can be read by {names_of(readers)}")
        anew = _plain(own, _paths(app, plain), "") if plain else own
        for path in _paths(app, dict.fromkeys(secret, "")):
            if _is_in(tree.read_yaml(shared), path):
                anew = without_values(anew, path, "")
                said.append(f"pillar/{shared}: {path[-1]} is removed; whoever could read it there has had it")
        if anew != own:
            texts[shared] = anew
        if plain:
            said.append(_told(shared, plain))
        write_secrets(tree, texts)
    return said


def _judge(
    tree: Tree,
    file: str,
    shared: str,
    values: Mapping[str, str],
    secret: Iterable[str],
    plain: Iterable[str],
    moved: Iterable[str],
) -> None:
    """Refuse what the files cannot hold."""
    found = [
        f"{name}: ends with an empty line, which would not reach the host; expected a value without it"
        for name in secret
        if values[name].endswith("\n")
    ]
    found += [f"{name}: has no value; expected one of a secret" for name in secret if not values[name]]
    found += [
        f"{name}: stands encrypted in pillar/{file}; remove it there first, with make secret-remove" for name in moved
    ]
    if plain and tree.read_yaml(shared) is None:
        found.append(
            f"pillar/{shared}: holds Jinja, beside which {', '.join(sorted(plain))} cannot be written; expected plain "
            "YAML, or these with --secret"
        )
    if found:
        raise Refusal("\n".join(sorted(found)))


def _is_in(said: object, path: Path) -> bool:
    for key in path:
        if not isinstance(said, dict) or key not in said:
            return False
        said = said[key]
    return True


def _told(file: str, names: Iterable[str]) -> str:
    return f"pillar/{file}: {', '.join(sorted(names))} written"
