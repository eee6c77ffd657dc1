"""Parity: each role is the same in every environment, on every Debian, but for what is declared to vary.

Each host's states are compiled twice, without the host. Once as they are. And once with another environment's settings
in the place of those that vary (``varies: true``): what differs then is no setting's doing, but of a state file, a
template or a pillar file that looks at which host or which environment it is for.
"""

import copy
import dataclasses
import functools
import io
import os
import re
import shutil
import tempfile

import jinja2
import salt.config
import salt.loader
import salt.pillar
import salt.utils.json
import salt.utils.yaml
from salt.exceptions import CommandExecutionError, SaltException

from saltern import environments, inventory, services
from saltern.attachments import derived, parts
from saltern.paths import Roots
from saltern.secrets import files as secrets
from saltern.settings.check import check
from saltern.settings.files import misplaced, unreadable
from saltern.settings.schema import parted, read_schemas

try:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError:
    Table = None

__load__ = ["show"]

# What differs between the Debians, by code name; the first is the one that all else is compared on.
MAP = "debian.yaml"

# What a secret is taken to be, and a build where none is declared: any value of a setting that varies will do.
ENCRYPTED = "-----BEGIN PGP MESSAGE-----"
SECRET = "encrypted://on-the-hosts-alone"
BUILD = {"source": "/none", "sha256": "0" * 64}

PAGE = "parity.html.jinja"


def __virtual__():
    return (True, "") if Table else (False, "parity needs the library rich: run it with make parity")


def show(html=None, vagrant=None):
    """Compare the roles of all environments of the inventory, those of each Debian, and Vagrant's hosts.

    :param html: a file to write the tables to, as a page that needs no other file.
    :param vagrant: a file that ``lab/vagrant`` writes: what Vagrant makes of the Vagrantfile; without one that is not
        compared.
    :return: ``retcode``, 1 where something differs that is not declared to vary, and ``parity``: the tables as text, or
        as data where a form such as ``--out json`` is asked for.

    CLI Example:

    .. code-block:: bash

        salt-run parity.show
        salt-run parity.show html=parity.html
        salt-run parity.show --out json
    """
    try:
        with tempfile.TemporaryDirectory() as directory:
            tables = compared(Tree(__opts__, directory), vagrant)
    except SaltException as error:
        # After an empty line it shows what it read, in which there may be secrets.
        return _answer(1, str(error).partition("\n\n")[0])
    failed = any(line["undeclared"] for table in tables for line in lines(table))
    if html:
        with open(html, "w", encoding="utf-8") as stream:
            stream.write(page(tables, failed))
    return _answer(int(failed), tables if "output" in __opts__ else written(tables, failed))


def _answer(retcode, parity):
    """Return what salt-run takes for an answer with an exit code."""
    return {"data": {"retcode": retcode, "parity": parity}, "outputter": __opts__.get("output", "nested")}


# --- Compiling, without a host ----------------------------------------------------------------------------------------


class Tree:
    """The states and the pillar of a tree, compiled for hosts that need not be there.

    :param opts: Salt's options; of these the file roots and the pillar roots.
    :param directory: an empty directory for what is written meanwhile.
    :raises CommandExecutionError: when the inventory has a mistake.
    """

    def __init__(self, opts, directory):
        self.roots, self.pillar_roots = opts["file_roots"]["base"], opts["pillar_roots"]["base"]
        self.directory = directory
        # A host's passwords are derived from its key. No table shows them.
        with open(f"{directory}/host.key", "w", encoding="ascii") as stream:
            stream.write("0" * 64)
        path = next(path for path in (os.path.join(root, MAP) for root in self.roots) if os.path.exists(path))
        with open(path, encoding="utf-8") as stream:
            self.debians = salt.utils.yaml.safe_load(stream)
        self.suite = next(iter(self.debians))
        refuse(unreadable(self.pillar_roots, ["hosts.yaml"]))
        self.hosts = inventory.read(Roots.of(opts))
        self.schemas = read_schemas(self.roots)
        of_inventory = {"hosts": inventory.schema(self.schemas.pop("hosts"), Roots.of(opts))}
        refuse(check(of_inventory, {"hosts": self.hosts}))
        refuse(inventory.mistakes(self.hosts, min(self.hosts)))
        self.environments = [one for one in environments.names(self.pillar_roots) if self.ids(one)]
        self.declared = {minion_id: self.read(minion_id) for minion_id in sorted(self.hosts)}

    def ids(self, environment):
        """Return the ids of an environment's hosts, sorted."""
        return sorted(name for name, row in self.hosts.items() if row["environment"] == environment)

    def debian(self, suite):
        """Return the name of a Debian release."""
        return f"Debian {self.debians[suite]['version']}"

    def functions(self, minion_id, suite=None, pillar=None, roots=()):
        """Return Salt's execution modules as a host has them.

        :param pillar: its pillar, complete.
        :param roots: directories that come before the file roots.
        """
        opts = self.opts(minion_id, suite, roots) | {"pillar": pillar or {}}
        return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))

    def opts(self, minion_id, suite=None, roots=()):
        """Return the options that a host has: one of the first Debian, where none is given."""
        suite = suite or self.suite
        return dict(salt.config.minion_config(None, role="minion").items()) | {
            "id": minion_id,
            "file_client": "local",
            "file_roots": {"base": [*roots, *self.roots]},
            "pillar_roots": {"base": [self.directory, *self.pillar_roots]},
            "module_dirs": [os.path.join(root, "_modules") for root in self.roots],
            "lazy_loader_strict_matching": True,
            "cachedir": f"{self.directory}/cache/{minion_id}",
            "conf_file": f"{self.directory}/minion",
            "grains": {
                "id": minion_id,
                "os": "Debian",
                "os_family": "Debian",
                "oscodename": suite,
                "osrelease": str(self.debians[suite]["version"]),
                "osmajorrelease": self.debians[suite]["version"],
                "kernel": "Linux",
                "init": "systemd",
                "virtual": "physical",
            },
            # What has Salt take the pillar that is there.
            "__cli": "salt-call",
        }

    def read(self, minion_id):
        """Return what the pillar files say of the formulas to a host, with nothing decrypted.

        :raises CommandExecutionError: when they have a mistake.
        """
        environment = self.hosts[minion_id]["environment"]
        own = [f"{kind}/{environment}.sls" for kind in ("environments", "builds", "secrets")]
        own.append(secrets.certificates(environment, minion_id))
        refuse(unreadable(self.pillar_roots, ["common.sls", *own]))
        refuse(misplaced(self.schemas, self.pillar_roots, own))
        for name in own[-2:]:
            self.take_for_secrets(name)
        opts = self.opts(minion_id)
        pillar = salt.pillar.Pillar(opts, opts["grains"], minion_id, "base").compile_pillar()
        refuse(f"{minion_id}: {error}" for error in pillar.pop("_errors", []))
        partial = self.functions(minion_id)["settings.undeclared"](self.pillar_roots, environment, pillar)
        refuse(message for messages in partial.values() for message in messages)
        # Certificates are each host's own.
        declared = {
            key: value for key, value in pillar.items() if key not in ("hosts", "certificates", environments.KEY)
        }
        for one in (declared.get("app") or {}).values():
            if isinstance(one, dict):
                one.setdefault("build", BUILD)
        return overlaid(passwords(declared), declared)

    def take_for_secrets(self, name):
        """Write a file of secrets with something in the place of each that is encrypted."""
        for root in self.pillar_roots:
            path = os.path.join(root, name)
            if os.path.exists(path):
                with open(path, encoding="utf-8") as stream:
                    said = unencrypted(salt.utils.yaml.safe_load(stream))
                os.makedirs(os.path.dirname(f"{self.directory}/{name}"), exist_ok=True)
                with open(f"{self.directory}/{name}", "w", encoding="utf-8") as stream:
                    stream.write("#!yaml\n")
                    salt.utils.yaml.safe_dump(said, stream)
                return

    def pillar(self, minion_id, declared, hosts):
        """Return a host's pillar, complete.

        :param declared: what is said of the formulas.
        :param hosts: the inventory.
        :raises CommandExecutionError: when that has a mistake.
        """
        functions = self.functions(minion_id)
        settings, mistakes = functions["settings.completed"](self.schemas, copy.deepcopy(declared), hosts, minion_id)
        refuse(f"{self.hosts[minion_id]['environment']}: {mistake}" for mistake in mistakes)
        return settings | {"hosts": hosts, "_declared": sorted(declared)}

    def own(self, minion_id, suite=None, roots=()):
        """Return the execution modules of a host as it is."""
        pillar = self.pillar(minion_id, self.declared[minion_id], self.hosts)
        return self.functions(minion_id, suite, pillar, roots)

    def like(self, minion_id, other):
        """Return the execution modules of a host with the settings that vary, and the place, of another."""
        same, _ = self.parted(minion_id)
        _, varying = self.parted(other)
        own, place = (self.hosts[name]["environment"] for name in (minion_id, other))
        # Whether its hosts are thrown away an environment's file says, so that it varies.
        said = {"environment": own, "ephemeral": environments.is_ephemeral(self.pillar_roots, place)}
        hosts = {
            minion_id if name == other else name: row | said
            for name, row in self.hosts.items()
            if row["environment"] == place
        }
        return self.functions(minion_id, None, self.pillar(minion_id, overlaid(same, varying), hosts))

    def parted(self, minion_id):
        """Return what is declared for a host and does not vary, and what varies."""
        return parted({"properties": self.schemas}, self.declared[minion_id])


def refuse(mistakes):
    """Raise a CommandExecutionError with mistakes, where there are any."""
    if found := list(mistakes):
        raise CommandExecutionError("\n".join(found))


def unencrypted(value):
    """Return a value with something in the place of each encrypted message in it."""
    if isinstance(value, dict):
        return {key: unencrypted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unencrypted(item) for item in value]
    return SECRET if isinstance(value, str) and ENCRYPTED in value else value


def passwords(declared):
    """Return something in the place of each password that several hosts must know, and that no file need say yet.

    :param declared: what is said of the formulas, which may have mistakes.
    """
    found = {kind: {service.plural: {}} for kind, service in services.formulas().items()}
    apps = declared.get("app")
    for app in apps.values() if isinstance(apps, dict) else ():
        attach = app.get("attach") if isinstance(app, dict) else None
        for kind, plural, name, password in derived.passwords(attach if isinstance(attach, dict) else {}):
            found[kind][plural][name] = {password: SECRET}
    return found


def overlaid(below, above):
    """Return a mapping with another laid over it, at every depth."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: overlaid(below.get(key), value) for key, value in above.items()}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a host compiles to.

    :param names: the state files of the top file: the base's, and ``roles.…``.
    :param formulas: which formulas each includes.
    :param chunks: its states, in order.
    :param texts: what their templates render to.
    """

    names: list
    formulas: dict
    chunks: list
    texts: dict

    def of(self, name, ids, texts=True):
        """Return the facts of one of the state files; see ``facts``."""
        chunks = [chunk for chunk in self.chunks if chunk["__sls__"].partition(".")[0] in self.formulas[name]]
        named = {chunk["__id__"] for chunk in chunks}
        mine = {what: text for what, text in self.texts.items() if what.partition(" ")[0] in named}
        return facts(chunks, ids, mine if texts else None)


def compiled(functions):
    """Compile a host.

    :param functions: its execution modules.
    :raises CommandExecutionError: when its states do not compile.
    """
    names = functions["state.show_top"]().get("base", [])
    formulas = {}
    for name in names:
        included = []
        if name.startswith("roles."):
            role = functions["slsutil.renderer"](f"salt://{name.replace('.', '/')}.sls")
            included = [one.partition(".")[0] for one in role.get("include", [])]
        formulas[name] = {name.partition(".")[0], *included}
    chunks = functions["state.show_lowstate"]()
    refuse(chunk for chunk in chunks if not isinstance(chunk, dict))
    return Compiled(names, formulas, chunks, contents(functions, chunks))


def contents(functions, chunks):
    """Render the templates of states.

    :return: text, by what it is of.
    """
    found = {}
    for chunk in chunks:
        if chunk["state"] == "nginx_tree":
            rendered = functions["nginx_tree.rendered"](chunk["template"], chunk["apps"])
            found |= {f"{chunk['__id__']} {path}": text for path, text in rendered.items()}
        elif chunk.get("template") == "jinja":
            context = chunk.get("context", {})
            text = functions["slsutil.renderer"](chunk["source"], default_renderer="jinja", **context)
            found[chunk["__id__"]] = str(text)
    return found


# --- Comparing ----------------------------------------------------------------------------------------------------


def facts(chunks, ids, texts=None):
    """Say what states come to, so that two hosts can be compared.

    :param chunks: the states, in order.
    :param ids: of all hosts: what is called by its host's name is the same on each.
    :param texts: of what their templates render to.
    :return: a value by kind and name, and by ``('order', '')`` the IDs in order.
    """
    names = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, sorted(ids)))})(?![\w.-])")

    def plain(value):
        return names.sub("<host>", value if isinstance(value, str) else salt.utils.json.dumps(value, sort_keys=True))

    found = {("order", ""): [plain(chunk["__id__"]) for chunk in chunks]}
    for chunk in chunks:
        one = plain(chunk["__id__"])
        found["state", one] = f"{chunk['state']}.{chunk['fun']}"
        for name, version in _packages(chunk):
            found["package", name] = version
        told_already = {"state", "fun", "order", *(("name", "pkgs", "version") if chunk["state"] == "pkg" else ())}
        for key, value in chunk.items():
            if key.startswith("__") or key in told_already:
                continue
            is_source = isinstance(value, str) and value.startswith("salt://")
            found["source" if is_source else "argument", f"{one} {key}"] = plain(value)
    for name, text in (texts or {}).items():
        found["content", plain(name)] = plain(text)
    return found


def _packages(chunk):
    """Yield the packages of a state and their versions, empty where Debian's is taken."""
    if chunk["state"] == "pkg":
        for package in chunk.get("pkgs") or [{chunk["name"]: chunk.get("version", "")}]:
            yield from package.items() if isinstance(package, dict) else [(package, "")]


def differing(found):
    """Find what is not the same everywhere.

    :param found: facts by column.
    :return: by kind and name, the value or ``None`` in each column.
    """
    orders = {column: one.get(("order", ""), []) for column, one in found.items()}
    shared = set.intersection(*map(set, orders.values()))
    result = {}
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


def told(kind, name, value, first):
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


def note(cells, differences, first, undeclared):
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


def compared(tree, vagrant=None):
    """Compare a tree's environments, the Debians, and the hosts that Vagrant would make.

    :param tree: a ``Tree``.
    :param vagrant: see ``show``.
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


def _machines(tree, path):
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


def _settings(tree):
    """Compare the settings that do not vary: Jinja in ``common.sls`` may look at the host."""
    cells = {column: [] for column in tree.environments}
    first = tree.ids(tree.environments[0])[0]
    flat = {minion_id: _flat(tree.parted(minion_id)[0]) for minion_id in tree.declared}
    for minion_id, said in flat.items():
        environment = tree.hosts[minion_id]["environment"]
        for path in sorted(said.keys() | flat[first].keys()):
            if said.get(path) != flat[first].get(path):
                cells[environment].append({"text": f"{path} is another on {minion_id}", "undeclared": True})
    return {"name": "settings in common", "cells": cells}


def _flat(value, path=""):
    if not isinstance(value, dict):
        return {path: value}
    found = {}
    for key, item in value.items():
        found |= _flat(item, f"{path}.{key}".removeprefix("."))
    return found


def _states(tree, found):
    """Compare each state file that the hosts get: a row for each."""
    place = {minion_id: row["environment"] for minion_id, row in tree.hosts.items()}
    ordered = [minion_id for environment in tree.environments for minion_id in tree.ids(environment)]
    like = functools.cache(lambda one, other: compiled(tree.like(one, other)))
    for name in names_of(found):
        cells = {column: [] for column in tree.environments}
        there = [minion_id for minion_id in ordered if name in found[minion_id].names]
        for column in tree.environments:
            if column not in [place[minion_id] for minion_id in there]:
                cells[column].append({"text": "no host has it", "undeclared": True})
        first, seen = there[0], set()
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


def names_of(found):
    """List the state files that hosts get."""
    return sorted({name for one in found.values() for name in one.names}, key=lambda name: ("." in name, name))


def _named(differences, columns):
    """Put the columns' names in the place of hosts. Of two hosts of one environment the second one is shown."""
    return {key: {columns[one]: value for one, value in values.items()} for key, values in differences.items()}


def _attached(attach):
    """Yield the variables of what an app attaches, whatever URL takes its place."""
    for variable, target in attach.items():
        yield from parts.names(variable, {word: value for word, value in target.items() if word != "url"})


def _variables(tree):
    """Compare the names of each app's variables, and whether a build is declared: a row for each app."""
    apps = {}
    for environment in tree.environments:
        for app, one in tree.declared[tree.ids(environment)[0]].get("app", {}).items():
            variables = {*one.get("config", {}), *_attached(one.get("attach", {}))}
            apps.setdefault(app, {})[environment] = (variables, one.get("build") != BUILD)
    for app, by_environment in sorted(apps.items()):
        cells, every = {}, set().union(*(variables for variables, _ in by_environment.values()))
        for column in tree.environments:
            variables, is_built = by_environment.get(column, (set(), False))
            texts = [f"lacks the variable {name}" for name in sorted(every - variables)]
            texts += [] if is_built else ["no build is declared"]
            cells[column] = [{"text": text, "undeclared": False} for text in texts]
        yield {"name": f"app {app}", "cells": cells}


def _debians(tree, found):
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
        cells = {column: [] for column in columns.values()}
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


# --- Showing ------------------------------------------------------------------------------------------------------


def lines(table):
    """Yield each line of a table's cells."""
    for row in table["rows"]:
        for cell in row["cells"].values():
            yield from cell


def verdict(failed):
    """Say in a sentence what the tables come to."""
    if failed:
        return "Not the same: what is marked DIFFERS is not declared to vary."
    return "The same everywhere, but for what is declared to vary."


def written(tables, failed):
    """Write tables for a terminal."""
    # Salt indents it by four.
    console = Console(file=io.StringIO(), width=shutil.get_terminal_size((120, 24)).columns - 4)
    for table in tables:
        shown = Table(title=table["title"], title_justify="left", show_lines=True)
        for column in ("", *table["columns"]):
            shown.add_column(column, overflow="fold")
        for row in table["rows"]:
            cells = row["cells"].values()
            shown.add_row(row["name"], *(Text("\n".join(map(_line, cell)) or "same") for cell in cells))
        console.print(shown)
    console.print(verdict(failed))
    return console.file.getvalue()


def _line(line):
    return f"{'DIFFERS' if line['undeclared'] else 'varies'}: {line['text']}"


def page(tables, failed):
    """Write tables as a page of HTML that needs no other file."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(os.path.dirname(__file__)), autoescape=True)
    return templates.get_template(PAGE).render(tables=tables, failed=failed, verdict=verdict(failed))
