"""The values of secrets files: read, laid over, taken out and written, with their comments and their order."""

import contextlib
import io
import os
from collections.abc import Mapping
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString, ScalarString

from saltern.refusal import Refusal
from saltern.secrets import files
from saltern.secrets.tree import Tree
from saltern.settings.files import unreadable
from saltern.system.files import replacing

# Keys, outermost first.
Path = tuple[str, ...]

NEW = """\
#!yaml|gpg
# Written by `make secret` and `make secrets-rekey`: each value is encrypted to the environment's hosts and operators.
"""


def read_secrets(tree: Tree, name: str, environment: str) -> tuple[str | None, dict[Path, str]]:
    """Read a secrets file.

    :param tree: the tree whose it is.
    :param name: below ``pillar/``; see ``Tree.files_of``.
    :param environment: whose it is.
    :return: its text and a mapping of path to PGP message; ``None`` and nothing where there is no file.
    :raises Refusal: when it holds anything else.
    """
    plain: tuple[Path, ...] = () if name.startswith("secrets/") else files.PLAIN
    if broken := unreadable(tree.pillar, [name]):
        raise Refusal("\n".join(broken))
    there = files.texts(tree.pillar, [name])
    if not there:
        return None, {}
    [(_, text)] = there
    if found := files.told(files.judged(text, plain), name, environment):
        raise Refusal("\n".join(sorted(found)))
    return text, {path: value for path, value in files.leaves(yaml.safe_load(text)) if path not in plain}


def with_values(text: str | None, values: Mapping[Path, str], new: str = NEW) -> str:
    """Return a file of the pillar with values laid over its own; comments and order stay.

    :param text: the file, or ``None`` where there is none yet.
    :param values: a mapping of path, a tuple, to PGP message, or to text of ruamel.yaml's that says how it is written.
    :param new: how a new file begins.
    """
    text = new if text is None else text
    editor = _editor()
    document = editor.load(text)
    whole = {} if document is None else document
    for path, message in values.items():
        tree = whole
        for key in path[:-1]:
            tree = tree.setdefault(_key(key), {})
        tree[_key(path[-1])] = message if isinstance(message, ScalarString) else LiteralScalarString(message)
    stream = io.StringIO()
    editor.dump(whole, stream)
    return stream.getvalue() if document is not None else text + stream.getvalue()


def without_values(text: str, path: Path, new: str = NEW) -> str:
    """Return a file of the pillar without the values at a path and below it; comments and order of the others stay.

    :param text: the file.
    :param path: a tuple of keys, which lead to something in it.
    :param new: how a file begins that has nothing else.
    """
    editor = _editor()
    document = editor.load(text)
    trees = [document]
    for key in path[:-1]:
        trees.append(trees[-1][key])
    for tree, key in zip(reversed(trees), reversed(path), strict=True):
        del tree[key]
        if tree:
            break
    if not document:
        return new
    stream = io.StringIO()
    editor.dump(document, stream)
    return stream.getvalue()


def _editor() -> YAML:
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 1000
    return editor


def _key(key: str) -> Any:
    """Return a key so that YAML 1.1, which Salt reads, takes it for text: ``on`` and ``no`` are none."""
    return key if isinstance(yaml.safe_load(key), str) else DoubleQuotedScalarString(key)


def write_secrets(tree: Tree, texts: Mapping[str, str]) -> None:
    """Write secrets files, all or none.

    :param tree: the tree whose they are.
    :param texts: a mapping of name, below ``pillar/``, to what the file shall be.
    """
    with contextlib.ExitStack() as stack:
        for name, text in texts.items():
            path = os.path.realpath(f"{tree.root}/pillar/{name}")
            mode = os.stat(path).st_mode & 0o7777 if os.path.exists(path) else None
            stream = stack.enter_context(replacing(path, mode))
            stream.write(text.encode())
            # Where the disk is full, it is so before the first file is replaced.
            stream.flush()
            os.fsync(stream.fileno())
