"""Contracts across an environment: which app provides which versions of its API, and who attaches them."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib

import jinja2
from salt.exceptions import CommandExecutionError, SaltException

from saltern.attachments.derived import attached
from saltern.parity.tree import Tree
from saltern.settings.check import check

try:
    from rich.console import Console
    from rich.table import Table
except ImportError:
    Table = None

__load__ = ["show"]

PAGE = "contracts.html.jinja"
COLUMNS = ("provider", "version", "path", "document", "attached by")

NOT_PROVIDED = "NOT PROVIDED"
MISSING = "MISSING"
ELSEWHERE = "the build is not here"

# Bytes of a build.json, and what reading a file raises that is no tarball.
MAX_MANIFEST = 1 << 20
UNREADABLE = (tarfile.TarError, zlib.error, OSError, EOFError)


def __virtual__():
    return (True, "") if Table else (False, "contracts needs the library rich: run it with make contracts")


def show(environment="dev", html=None):
    """List the versions that the apps of an environment provide, and who attaches them.

    :param environment: such as ``dev``.
    :param html: a file to write the table and a picture to, as a page that needs no other file.
    :return: ``retcode``, 1 where a version is attached that is not provided, or provided without a document; and
        ``contracts``: the table as text, or as data where a form such as ``--out json`` is asked for.

    CLI Example:

    .. code-block:: bash

        salt-run contracts.show
        salt-run contracts.show environment=production html=contracts.html
        salt-run contracts.show --out json
    """
    try:
        with tempfile.TemporaryDirectory() as directory:
            tree = Tree(__opts__, directory)
            rows = listed(declared(tree, environment), _documents)
        failed = any(row["wrong"] for row in rows)
        if html:
            text = page(environment, rows, failed)
            with open(html, "w", encoding="utf-8") as stream:
                stream.write(text)
    except SaltException as error:
        # After an empty line it shows what it read, in which there may be secrets.
        return _answer(1, str(error).partition("\n\n")[0])
    return _answer(int(failed), rows if "output" in __opts__ else written(environment, rows, failed))


def _answer(retcode, contracts):
    """Return what salt-run takes for an answer with an exit code."""
    return {"data": {"retcode": retcode, "contracts": contracts}, "outputter": __opts__.get("output", "nested")}


def declared(tree, environment):
    """Return what is declared of the apps of an environment.

    :raises CommandExecutionError: when it has no host, or the pillar has a mistake.
    """
    if environment not in tree.environments:
        known = ", ".join(tree.environments)
        raise CommandExecutionError(f"{environment}: no host of pillar/hosts.yaml is of it; expected one of {known}")
    minion_id = tree.ids(environment)[0]
    said = tree.declared[minion_id]
    # That a version is attached which is not provided, the table shows.
    mistakes = check(tree.schemas, said)
    if mistakes:
        raise CommandExecutionError("\n".join(f"{environment}: {mistake}" for mistake in mistakes))
    return said.get("app") or {}


def listed(apps, documents):
    """List who provides what, and who attaches it.

    :param apps: what is declared of the apps.
    :param documents: a function that returns the documents of an app's build, by version, or ``None`` where that is
        not known.
    :return: rows: ``provider``, ``version``, ``path``, ``document``, ``consumers`` as app and variable, and whether it
        is ``wrong``.
    """
    uses = {}
    for app, variable, target in attached(apps, "service"):
        key = (target["service"], target.get("version", ""))
        uses.setdefault(key, []).append({"app": app, "variable": variable})
    rows = []
    for app, one in sorted(apps.items()):
        provides = one.get("provides", {})
        known = documents(one.get("build", {})) if provides else None
        for version, its in sorted(provides.items(), key=lambda item: _order(item[0])):
            said = ELSEWHERE if known is None else known.get(version, MISSING)
            consumers = uses.pop((app, version), [])
            row = {"provider": app, "version": version, "path": its["path"], "document": said, "consumers": consumers}
            rows.append(row | {"wrong": said == MISSING})
    for (provider, version), consumers in sorted(uses.items()):
        row = {"provider": provider, "version": version, "path": "", "document": NOT_PROVIDED, "consumers": consumers}
        rows.append(row | {"wrong": True})
    return rows


def _order(version):
    """Sort ``v10`` after ``v9``."""
    return int(version.removeprefix("v"))


def _documents(build):
    """Return the titles of the documents in a build, where its tarball is here."""
    source, sha256 = build.get("source", ""), build.get("sha256")
    trees = (os.path.dirname(root) for root in __opts__["pillar_roots"]["base"])
    for path in (source, *(os.path.join(tree, "dist", os.path.basename(source)) for tree in trees)):
        if os.path.isfile(path):
            with open(path, "rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                    continue
            try:
                with tarfile.open(path) as tar:
                    found = json.loads(tar.extractfile("build.json").read(MAX_MANIFEST)).get("contracts") or {}
                return {version: f"{one['title']} {one['version']}" for version, one in found.items()}
            except (*UNREADABLE, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise CommandExecutionError(
                    f"{path}: has no valid build.json ({type(error).__name__}); make it with bin/build"
                ) from error
    return None


# --- Showing ------------------------------------------------------------------------------------------------------


def verdict(rows):
    """Say in a sentence what a table comes to."""
    if not rows:
        return "No app provides anything."
    wrong = sum(row["wrong"] for row in rows)
    if wrong:
        return f"{wrong} of {len(rows)} cannot be: what is marked {NOT_PROVIDED} or {MISSING}."
    consumers = sum(len(row["consumers"]) for row in rows)
    return f"{len(rows)} version{'s' * (len(rows) != 1)}, attached {consumers} time{'s' * (consumers != 1)}."


def attachments(row):
    """Return who attaches what a row is about, a line for each."""
    return [f"{one['app']} as {one['variable']}" for one in row["consumers"]] or ["nobody"]


def written(environment, rows, failed):
    """Write a table for a terminal."""
    # Salt indents it by four.
    console = Console(file=io.StringIO(), width=shutil.get_terminal_size((120, 24)).columns - 4)
    shown = Table(title=f"Contracts of {environment}", title_justify="left", show_lines=True)
    for column in COLUMNS:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(row["provider"], row["version"], row["path"], row["document"], "\n".join(attachments(row)))
    if rows:
        console.print(shown)
    console.print(verdict(rows))
    return console.file.getvalue()


def graph(rows):
    """Write a table as a graph for Graphviz: an arrow from each consumer to the version that it attaches."""
    found = ["digraph contracts {", "rankdir=LR; bgcolor=transparent;", "node [shape=box, style=rounded];"]
    for provider in sorted({row["provider"] for row in rows}):
        found.append(f"subgraph {_quoted(f'cluster {provider}')} {{ label={_quoted(provider)};")
        for row in (row for row in rows if row["provider"] == provider):
            color = ", color=red, fontcolor=red" * row["wrong"]
            label = f"{row['version']}\n{row['path'] or row['document']}"
            found.append(f"{_quoted(_node(row))} [label={_quoted(label)}{color}];")
        found.append("}")
    for row in rows:
        for one in row["consumers"]:
            color = ", color=red, fontcolor=red" * row["wrong"]
            consumer = f"app {one['app']}"
            found.append(f"{_quoted(consumer)} [label={_quoted(one['app'])}];")
            found.append(f"{_quoted(consumer)} -> {_quoted(_node(row))} [label={_quoted(one['variable'])}{color}];")
    return "\n".join([*found, "}"])


def _node(row):
    return f"{row['provider']} {row['version']}"


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def drawn(text):
    """Draw a graph.

    :param text: in Graphviz's language.
    :return: an ``svg`` element.
    :raises CommandExecutionError: when Graphviz is not there or refuses it.
    """
    try:
        done = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CommandExecutionError("dot: not installed; install the package graphviz, or run make setup") from error
    if done.returncode:
        raise CommandExecutionError(f"dot: {done.stderr.strip()}")
    return re.search(r"<svg.*</svg>", done.stdout, re.DOTALL)[0]


def page(environment, rows, failed):
    """Write a table and its picture as a page of HTML that needs no other file."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True)
    return templates.get_template(PAGE).render(
        environment=environment,
        rows=[row | {"attached": attachments(row)} for row in rows],
        columns=COLUMNS,
        failed=failed,
        verdict=verdict(rows),
        picture=drawn(graph(rows)),
    )
