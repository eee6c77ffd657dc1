"""What differs between the environments of a tree, between the Debians, and on the hosts that Vagrant makes."""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import salt.utils.json
import salt.utils.yaml
from salt.exceptions import CommandExecutionError

from saltern.attachments import parts
from saltern.parity.compiled import Compiled, Facts, compiled
from saltern.parity.tree import BUILD, MAP, Tree

# Values by column, by what differs.
Differences = dict[tuple[str, str], dict[str, Any]]
# Lines by column; a line is a ``text`` and whether it is ``undeclared``.
Cells = dict[str, list[dict[str, Any]]]
# A ``name`` and ``cells``.
Row = dict[str, Any]


def differing(found: Mapping[str, Facts]) -> Differences:
    """Find what is not the same everywhere.

    :param found: facts by column.
    :return: by kind and name, the value or ``None`` in each column.
    """
    orders = {column: one.get(("order", ""), []) for column, one in found.items()}
    shared = set.intersection(*map(set, orders.values()))
    result: Differences = {}
    for key in sorted(set().union(*found.values()) - {("order", "")}):
        values = {column: one.get(key) for column, one in found.items()}
        if len(set(values.values())) > 1:
            result[key] = values
    sequences = {column: [one for one in order if one in shared] for column, order in orders.items()}
    for pair in zip(*sequences.values(), strict=True):
        if len(set(pair)) > 1:
            result["order", pair[0]] = dict(zip(sequences, pair, strict=True))
            break
    return result


def told(kind: str, name: str, value: Any, first: Any) -> str:
    """Say what a column has of something that differs, or nothing where there is no more to say.

    :param value: what it has, or ``None``.
    :param first: what the first column has.
    """
    words = {
        "state": f"has {name} ({value})" if value else f"lacks {name}",
        "package": f"package {name} {value or ''}".rstrip() if value is not None else f"no package {name}",
        "source": f"{name}: {value}",
        "order": f"comes here: {value}",
    }
    if kind in words:
        return words[kind] if value is not None or kind in ("state", "package") else ""
    if value is None or first is None:
        return ""
    # A value may be a secret; a name is none.
    if kind == "argument" and name.endswith((" name", " version")):
        return f"{name}: {value}"
    return "" if value == first else f"{'content of ' if kind == 'content' else ''}{name} is another"


def note(cells: Cells, differences: Differences, first: str, undeclared: bool) -> None:
    """Add differences between two columns to the cells of a row.

    :param cells: lists of lines by column; a line is a ``text`` and whether it is ``undeclared``.
    :param differences: see ``differing``.
    :param first: the column that the other one is compared with.
    :param undeclared: whether what differs was not declared to vary.
    """
    for (kind, name), values in differences.items():
        for column, value in values.items():
            text = told(kind, name, value, values[first])
            line = {"text": text, "undeclared": undeclared}
            if text and line not in cells[column]:
                cells[column].append(line)


def compared(tree: Tree, vagrant: str | None = None) -> list[dict[str, Any]]:
    """Compare a tree's environments, the Debians, and the hosts that Vagrant would make.

    :param tree: a ``Tree``.
    :param vagrant: see the runner ``parity.show``.
    :return: tables: each a ``title``, ``columns`` and ``rows`` of a ``name`` and ``cells``, see ``note``.
    """
    found = {minion_id: compiled(tree.own(minion_id)) for minion_id in tree.declared}
    rows = [_settings(tree), *_states(tree, found), *_variables(tree)]
    releases = [tree.debian(suite) for suite in tree.debians]
    tables = [
        {"title": "Environments", "columns": tree.environments, "rows": rows},
        {"title": "Debian releases", "columns": releases, "rows": [*_debians(tree, found)]},
    ]
    if vagrant:
        tables.append({"title": "Hosts", "columns": ["Vagrant"], "rows": [*_machines(tree, vagrant)]})
    return tables


def _machines(tree: Tree, path: str) -> Iterator[Row]:
    """Compare the inventory with the machines that Vagrant would make: a row for each host.

    A machine has the roles of the host that it is bootstrapped as, by the pillar of the tree that it is given.

    :param path: a file with what Vagrant says.
    :raises CommandExecutionError: when it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            machines = {one["id"]: one for one in salt.utils.json.load(stream)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandExecutionError(
            f"vagrant={path}: {error}; expected what Vagrant says, as make parity asks"
        ) from None
    for minion_id in sorted(tree.hosts | machines):
        row, one = tree.hosts.get(minion_id), machines.get(minion_id)
        texts = []
        if not row or not one:
            texts.append("is not in the inventory" if one else "Vagrant makes no such host")
        else:
            bootstrapped = {"environment": one["environment"], "hostname": one["hostname"], "address": one["address"]}
            expected = {"environment": row["environment"], "hostname": minion_id, "address": row["address"]}
            wrong = [key for key in expected if bootstrapped[key] != expected[key]]
            texts += [f"{key} {bootstrapped[key]}, and the inventory has {expected[key]}" for key in wrong]
            told = [tree.hosts.get(name, {}).get("roles", []) for name in one["told"]]
            if one["told"] != [minion_id]:
                roles = ", ".join(sorted({role for roles in told for role in roles})) or "no roles"
                texts.append(f"is bootstrapped as {', '.join(one['told']) or 'nothing'}, with {roles}")
            if not one["own_tree"]:
                texts.append(f"is given another tree: {one['tree']}")
        what = f"{minion_id}: {row['address']}, {', '.join(row['roles'])}" if row else minion_id
        yield {"name": what, "cells": {"Vagrant": [{"text": text, "undeclared": True} for text in texts]}}


def _settings(tree: Tree) -> Row:
    """Compare the settings that do not vary: Jinja in ``common.sls`` may look at the host."""
    cells: Cells = {column: [] for column in tree.environments}
    first = tree.ids(tree.environments[0])[0]
    flat = {minion_id: _flat(tree.parted(minion_id)[0]) for minion_id in tree.declared}
    for minion_id, said in flat.items():
        environment = tree.hosts[minion_id]["environment"]
        for path in sorted(said.keys() | flat[first].keys()):
            if said.get(path) != flat[first].get(path):
                cells[environment].append({"text": f"{path} is another on {minion_id}", "undeclared": True})
    return {"name": "settings in common", "cells": cells}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{path}.{key}".removeprefix("."))
    return found


def _states(tree: Tree, found: Mapping[str, Compiled]) -> Iterator[Row]:
    """Compare each state file that the hosts get: a row for each."""
    place = {minion_id: row["environment"] for minion_id, row in tree.hosts.items()}
    ordered = [minion_id for environment in tree.environments for minion_id in tree.ids(environment)]
    like = functools.cache(lambda one, other: compiled(tree.like(one, other)))
    for name in names_of(found):
        cells: Cells = {column: [] for column in tree.environments}
        there = [minion_id for minion_id in ordered if name in found[minion_id].names]
        for column in tree.environments:
            if column not in [place[minion_id] for minion_id in there]:
                cells[column].append({"text": "no host has it", "undeclared": True})
        first, seen = there[0], set[str]()
        for minion_id in there:
            columns = {one: place[one] for one in (first, minion_id)}
            undeclared = differing({one: like(one, first).of(name, tree.hosts) for one in columns})
            note(cells, _named(undeclared, columns), columns[first], True)
            if place[minion_id] not in seen:
                varying = differing({one: found[one].of(name, tree.hosts, texts=False) for one in columns})
                varying = {key: values for key, values in varying.items() if key not in undeclared}
                note(cells, _named(varying, columns), columns[first], False)
            seen.add(place[minion_id])
        yield {"name": name.removeprefix("roles."), "cells": cells}


def names_of(found: Mapping[str, Compiled]) -> list[str]:
    """List the state files that hosts get."""
    return sorted({name for one in found.values() for name in one.names}, key=lambda name: ("." in name, name))


def _named(differences: Differences, columns: Mapping[str, str]) -> Differences:
    """Put the columns' names in the place of hosts. Of two hosts of one environment the second one is shown."""
    return {key: {columns[one]: value for one, value in values.items()} for key, values in differences.items()}


def _attached(attach: Mapping[str, Any]) -> Iterator[str]:
    """Yield the variables of what an app attaches, whatever URL takes its place."""
    for variable, target in attach.items():
        yield from parts.names(variable, {word: value for word, value in target.items() if word != "url"})


def _variables(tree: Tree) -> Iterator[Row]:
    """Compare the names of each app's variables, whether a build is declared, and which packages it asks for.

    :return: a row for each app.
    """
    apps: dict[str, dict[str, tuple[set[str], bool, set[str]]]] = {}
    for environment in tree.environments:
        for app, one in tree.declared[tree.ids(environment)[0]].get("app", {}).items():
            variables = {*one.get("config", {}), *_attached(one.get("attach", {}))}
            build = one.get("build", {})
            apps.setdefault(app, {})[environment] = (variables, build != BUILD, set(build.get("packages", [])))
    for app, by_environment in sorted(apps.items()):
        cells, every = {}, set().union(*(variables for variables, *_ in by_environment.values()))
        asked = set().union(*(packages for *_, packages in by_environment.values()))
        for column in tree.environments:
            variables, is_built, packages = by_environment.get(column, (set(), False, set()))
            texts = [f"lacks the variable {name}" for name in sorted(every - variables)]
            texts += [f"its build asks for no {name}" for name in sorted(asked - packages)] if is_built else []
            texts += [] if is_built else ["no build is declared"]
            cells[column] = [{"text": text, "undeclared": False} for text in texts]
        yield {"name": f"app {app}", "cells": cells}


def _debians(tree: Tree, found: Mapping[str, Compiled]) -> Iterator[Row]:
    """Compare the Debians: a row for each state file.

    What differs because of the one map is declared. With the map of the first in the place of another's, nothing may.
    """
    first, *others = tree.debians
    columns = {suite: tree.debian(suite) for suite in tree.debians}
    equal = os.path.join(tree.directory, "equal")
    os.makedirs(equal, exist_ok=True)
    with open(os.path.join(equal, MAP), "w", encoding="utf-8") as stream:
        salt.utils.yaml.safe_dump(dict.fromkeys(tree.debians, tree.debians[first]), stream)
    like = functools.cache(lambda minion_id, suite, roots: compiled(tree.own(minion_id, suite, roots)))
    for name in names_of(found):
        cells: Cells = {column: [] for column in columns.values()}
        minion_id = next(minion_id for minion_id in found if name in found[minion_id].names)
        one = found[minion_id].of(name, tree.hosts)
        equally, really = (
            {first: one} | {other: like(minion_id, other, roots).of(name, tree.hosts) for other in others}
            for roots in ((equal,), ())
        )
        undeclared = differing(equally)
        note(cells, _named(undeclared, columns), columns[first], True)
        varying = {key: values for key, values in differing(really).items() if key not in undeclared}
        note(cells, _named(varying, columns), columns[first], False)
        yield {"name": name.removeprefix("roles."), "cells": cells}
