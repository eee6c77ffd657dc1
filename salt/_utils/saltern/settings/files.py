"""The pillar's files, read without Salt: what keeps them from being settings, and what stands in the wrong one."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import salt.utils.yaml
import yaml
from salt.exceptions import SaltException

from saltern.settings.messages import dotted, kind
from saltern.settings.schema import Schema, fixed, part_of

# No setting is half as deep.
MAX_DEPTH = 20
TOO_DEEP = f"more than {MAX_DEPTH} lists and mappings inside each other"

# What a pillar file may begin with, beside nothing.
RENDERERS = "#!yaml, #!jinja|yaml, #!yaml|gpg or #!jinja|yaml|gpg"

JINJA = re.compile(r"\{[{%#]")

Render = Callable[[str], Any]
Path = tuple[Any, ...]


def unreadable(roots: Iterable[str], names: Iterable[str]) -> list[str]:
    """List what keeps pillar files from being YAML.

    Of a file that does not render Salt says no more than that, since the reason might show a secret.

    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them; each need not be there. Those that hold Jinja are not judged.
    :return: a message for each broken file.
    """
    found = []
    for root, name in itertools.product(roots, names):
        try:
            with open(os.path.join(root, name), encoding="utf-8") as stream:
                text = stream.read()
            if renderers := _unknown_renderers(name, text):
                found.append(f"pillar/{name}: line 1: {renderers}: no such renderer here; expected {RENDERERS}")
            elif is_plain(text) or not name.endswith(".sls"):
                found += [f"pillar/{name}: {problem}" for problem in _misshapen(name, salt.utils.yaml.safe_load(text))]
        except FileNotFoundError:
            continue
        except UnicodeDecodeError:
            found.append(f"pillar/{name}: not in UTF-8; expected YAML in UTF-8")
        except OSError as error:
            found.append(f"pillar/{name}: cannot be read: {error.strerror}; expected a file that root may read")
        except salt.utils.yaml.YAMLError as error:
            found.append(f"pillar/{name}: {_problem(error)}; expected YAML")
        except RecursionError:
            found.append(f"pillar/{name}: {TOO_DEEP}; expected settings")
        # Such as a number of thousands of digits, which Python's own message shows: it may be a secret.
        except (ValueError, OverflowError):
            found.append(f"pillar/{name}: a number that cannot be read; expected YAML; put it in quotes if it is text")
    return found


def _unknown_renderers(name: str, text: str) -> str:
    """Return the first line of a pillar file that names a renderer whose result nothing else here can read."""
    first = text.partition("\n")[0].removeprefix("#!") if text.startswith("#!") and name.endswith(".sls") else ""
    known = [set(part.split()[:1]) <= {"jinja", "yaml", "gpg"} for part in first.split("|")]
    is_yaml = not first or "yaml" in [part.strip() for part in first.split("|")]
    return "" if all(known) and is_yaml else f"#!{first[:40]!a}".replace("'", "")


def missing(roots: Iterable[str], names: Iterable[str]) -> list[str]:
    """List the pillar files that must be there, and are not.

    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them.
    :return: a message for each.
    """
    return [
        f"pillar/{name}: missing; expected this file: it may be empty"
        for name in names
        if not any(os.path.lexists(os.path.join(root, name)) for root in roots)
    ]


def unrendered(roots: Iterable[str], names: Iterable[str], render: Render) -> list[str]:
    """List what keeps pillar files with Jinja from being YAML. Salt says no more than that they do not render.

    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them; each need not be there.
    :param render: returns what Salt makes of a file, by its path.
    :return: a message for each broken file.
    """
    found = []
    for root, name in itertools.product(roots, names):
        path = os.path.join(root, name)
        try:
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            if not is_plain(text):
                content = render(path)
                found += [f"pillar/{name}: {problem}" for problem in _misshapen(name, content)]
        except (OSError, UnicodeDecodeError):
            # That is told already; see unreadable.
            continue
        except SaltException:
            line = text[: _jinja_at(text)].count("\n") + 1
            found.append(
                f"pillar/{name}: line {line}: Jinja that does not render; expected YAML of it. "
                f"`salt-call slsutil.renderer {path}` says why. "
                "To keep a value that looks like Jinja as it is, make the first line #!yaml"
            )
    return found


def _misshapen(name: str, content: Any) -> list[str]:
    """List why the content of a pillar file cannot be settings, whatever they are."""
    if content is not None and not isinstance(content, dict):
        return [f"found {kind(content)}; expected mapping"]
    if content and "include" in content and name.endswith(".sls"):
        return ["include: not here; expected settings alone"]
    # A list or a mapping that holds itself, by an alias of YAML, has no end.
    level: list[Any] = [content or {}]
    for _ in range(MAX_DEPTH):
        parts = (part for item in level for part in (item.values() if isinstance(item, dict) else item))
        level = list({id(part): part for part in parts if isinstance(part, dict | list)}.values())
    return [f"{TOO_DEEP}; expected settings"] if level else []


def misplaced(schemas: Mapping[str, Schema], roots: Iterable[str], names: Iterable[str]) -> list[str]:
    """List what the files of one environment say and may not: environments differ in what ``varies``, and no more.

    :param schemas: a mapping of formula to JSON Schema.
    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them; each need not be there.
    :return: a message for each such setting.
    """
    found = []
    for root, name in itertools.product(roots, names):
        try:
            with open(os.path.join(root, name), encoding="utf-8") as stream:
                text = stream.read()
        except FileNotFoundError:
            continue
        if not is_plain(text):
            line = text[: _jinja_at(text)].count("\n") + 1
            found.append(
                f"pillar/{name}: line {line}: Jinja; expected plain YAML, which says the same of every host. "
                "To keep a value that looks like Jinja as it is, make the first line #!yaml"
            )
            continue
        declared = salt.utils.yaml.safe_load(text)
        for path in fixed({"properties": schemas}, declared, []):
            found.append(f"{dotted(path)}: does not vary; expected in pillar/common.sls, not in pillar/{name}")
    return found


def doubled(
    schemas: Mapping[str, Schema], roots: Iterable[str], environment: str, names: Iterable[str], render: Render
) -> list[str]:
    """List the variables and secrets that stand in a file of secrets and in another: one would count without a word.

    :param schemas: a mapping of formula to JSON Schema.
    :param roots: directories, in the order of the pillar roots.
    :param environment: the host's.
    :param names: of the files with secrets, below the roots; each need not be there.
    :param render: see ``unrendered``.
    :return: a message for each.
    """
    others = ["common.sls", f"environments/{environment}.sls", f"builds/{environment}.sls"]
    secret, open_ = ({name: _said(roots, name, render) for name in group} for group in (names, others))
    return [
        f"{dotted(path)}: is in pillar/{name} and in pillar/{other} too; expected in one of them. Remove the other"
        for name, paths in secret.items()
        for other, there in open_.items()
        for path in sorted(paths & there, key=str)
        if _is_value(schemas, path)
    ]


def _is_value(schemas: Mapping[str, Schema], path: Path) -> bool:
    """Tell whether a setting is a secret, or a variable of an app, which may be one."""
    part = {"properties": schemas}
    for key in path:
        part = part_of(part, key)
        if part.get("secret"):
            return True
    return len(path) == 4 and (path[0], path[2]) == ("app", "config")


def _said(roots: Iterable[str], name: str, render: Render) -> set[Path]:
    """Return the paths of all that a pillar file sets, whichever root it is in."""
    found = set()
    for root in roots:
        path = os.path.join(root, name)
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
            text = stream.read()
            content = salt.utils.yaml.safe_load(text) if is_plain(text) else render(path)
            found |= set(_leaves(content, ()))
    return found


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    """Yield the paths in a value at which there is no mapping."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif path:
        yield path


def is_plain(text: str) -> bool:
    """Tell whether Salt takes a pillar file as YAML alone."""
    return text.startswith("#!yaml") or not JINJA.search(text)


def _problem(error: Any) -> str:
    """Say what is wrong with YAML, and where."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    # These name what they found, which may be a part of a secret: `!x`, `*x`, `{x: y}: z`.
    if not isinstance(error, yaml.parser.ParserError | yaml.scanner.ScannerError):
        problem = re.split(r" ['\[]", problem)[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _jinja_at(text: str) -> int:
    """Return where the first Jinja of a text begins."""
    found = JINJA.search(text)
    return found.start() if found else 0
