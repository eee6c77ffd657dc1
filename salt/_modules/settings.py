"""Settings: what the pillar says of each formula, checked against its schema and completed with its defaults.

Each formula's ``settings.yaml`` is a JSON Schema (draft 2020-12). The ``jsonschema`` library validates; the defaults,
the paths and the wording of the messages are ours. A message names a path and what was expected, never a value: it
may be a secret.
"""

import contextlib
import copy
import difflib
import glob
import itertools
import os
import re

import salt.utils.yaml
import yaml
from salt.exceptions import CommandExecutionError, SaltException

from saltern import environments, inventory
from saltern.paths import Roots
from saltern.tls import certificate

__load__ = [
    "check",
    "compiled",
    "completed",
    "confined",
    "dotted",
    "load",
    "loadable",
    "misplaced",
    "parted",
    "read_schemas",
    "undeclared",
    "unreadable",
]

# Not a formula's: the inventory, from pillar/hosts.yaml, with a schema of its own beside the roles.
INVENTORY_KEY = "hosts"

# In the compiled pillar: the formulas that the pillar files mention.
DECLARED_KEY = "_declared"

APP_NAME = re.compile("[a-z][a-z0-9-]*")

# What files of one environment may say of an app, and what takes it out again. {env} and {app} are put in.
OF_AN_APP = {
    "environments": ("has settings of an app", "remove app.{app} from this file"),
    "builds": ("declares a build of an app", "remove the build with make build-forget APP={app} ENV={env}"),
    "secrets": ("has secrets of an app", "remove them with make secret-remove ENV={env} NAME=app.{app}"),
}

# No setting is half as deep.
MAX_DEPTH = 20
TOO_DEEP = f"more than {MAX_DEPTH} lists and mappings inside each other"

# What a pillar file may begin with, beside nothing.
RENDERERS = "#!yaml, #!jinja|yaml, #!yaml|gpg or #!jinja|yaml|gpg"

# JSON Schema's words for what YAML calls otherwise.
TYPES = {"object": "mapping", "array": "list", "null": "nothing"}


def load(formula):
    """Return the settings of a formula on this host: defaults, overlaid by the pillar, checked.

    :param formula: the formula's name, such as ``nginx``.
    :return: a mapping of its settings, complete.
    :raises CommandExecutionError: when the pillar has a mistake or no formula has this name.

    CLI Example:

    .. code-block:: bash

        salt-call settings.load nginx
    """
    if __pillar__.get("_errors"):
        raise CommandExecutionError("\n".join(__pillar__["_errors"]))
    if DECLARED_KEY not in __pillar__:
        raise CommandExecutionError(
            "the pillar was not checked; expected ext_pillar in /etc/salt/minion: run bootstrap.sh"
        )
    if formula not in __pillar__:
        raise CommandExecutionError(f"{formula}: no formula has this name")
    found = copy.deepcopy(__pillar__[formula])
    # A database or an instance without an owner is one that a URL has replaced. Nothing can be taken out of a pillar.
    for plural in {"databases", "instances"} & found.keys():
        found[plural] = {name: resource for name, resource in found[plural].items() if resource["owner"]}
    return found


def compiled(pillar, minion_id):
    """Check and complete a host's pillar.

    :param pillar: what the pillar files say.
    :param minion_id: the host's id.
    :return: a mapping of formula to settings, and a list of mistakes. With mistakes the mapping is of no use.
    :raises CommandExecutionError: when a pillar file is no YAML. Salt adds that to what it has to say itself; mistakes
        that are returned it would replace.

    CLI Example: none, it serves the external pillar ``settings``.
    """
    tree = Roots.of(__opts__)
    roots = tree.pillar
    schemas = read_schemas(tree.states)
    of_inventory = {INVENTORY_KEY: inventory.schema(schemas.pop(INVENTORY_KEY), tree)}
    if (hosts := inventory.known(tree)) is None:
        if broken := unreadable(roots, ["hosts.yaml"]):
            return {}, broken
        hosts = inventory.read(tree)
        if mistakes := check(of_inventory, {INVENTORY_KEY: hosts}):
            return {}, mistakes
        inventory.keep(tree, hosts)
    if mistakes := inventory.mistakes(hosts, minion_id):
        return {}, mistakes
    row = {INVENTORY_KEY: inventory.row(hosts, minion_id)}
    environment = hosts[minion_id]["environment"]
    files = _files(environment, minion_id)
    own = files[1:]
    if broken := missing(roots, files[:2]) or unreadable(roots, files) or unrendered(roots, files):
        raise CommandExecutionError("\n".join(broken))
    if INVENTORY_KEY in pillar and (DECLARED_KEY not in pillar or pillar[INVENTORY_KEY] != row[INVENTORY_KEY]):
        return {}, ["hosts: set in a pillar file; expected in pillar/hosts.yaml alone"]
    declared = {
        key: value for key, value in pillar.items() if key not in (INVENTORY_KEY, DECLARED_KEY, environments.KEY)
    }
    # Salt 3008 compiles a pillar again over the one that it has, for pillar.items and for a pillar on the command line.
    # What the files do not mention is then what was completed the first time.
    if DECLARED_KEY in pillar:
        declared = {key: value for key, value in declared.items() if key in pillar[DECLARED_KEY]}
    mistakes = environments.mistakes(roots, environment, pillar.get(environments.KEY))
    mistakes += misplaced(schemas, roots, own)
    partial = undeclared(roots, environment, declared)
    mistakes += [message for messages in partial.values() for message in messages]
    if partial and isinstance(declared.get("app"), dict):
        # Without its port nothing else can be told of such an app.
        declared = declared | {"app": {app: one for app, one in declared["app"].items() if app not in partial}}
    mistakes += __salt__["secrets.mistakes"](roots, environment, minion_id, pillar, schemas)
    # What could not be decrypted, or is in the wrong place, is not judged as well.
    named = {message.partition(": ")[0] for message in mistakes}
    twice = doubled(schemas, roots, environment, own[2:])
    mistakes += [message for message in twice if message.partition(": ")[0] not in named]
    settings, others = completed(schemas, declared, hosts, minion_id)
    if not others:
        others += certificate.mistakes(settings["certificates"], hosts[minion_id], minion_id)
        others += __salt__["site_certificate.mistakes"](settings, hosts, minion_id)
    others = [located(message, roots, files, environment) for message in others]
    mistakes += [message for message in others if message.partition(": ")[0] not in named]
    if mistakes:
        return {}, sorted(mistakes)
    own = confined({"properties": schemas}, settings, hosts[minion_id]["roles"])
    return row | own | {DECLARED_KEY: sorted(declared)}, []


def _files(environment, minion_id):
    """Return the names of the pillar files of a host: what all share, its environment's, and what need not be there."""
    own = [f"{kind}/{environment}.sls" for kind in ("environments", "builds", "secrets")]
    return ["common.sls", *own, __salt__["secrets.certificates"](environment, minion_id)]


def loadable(environment, minion_id):
    """List the pillar files of a host that Salt can load, for ``pillar/top.sls``.

    Of a file that it cannot load Salt says little, in several messages or a traceback. So it is not given such a file,
    and ``settings.compiled`` then says what is wrong with it.

    :param environment: the host's. Empty where the inventory does not say it.
    :param minion_id: the host's id.
    :return: names as a top file has them, such as ``environments.dev``.

    CLI Example: none, it serves the pillar's top file.
    """
    roots = __opts__["pillar_roots"]["base"]
    names = _files(environment, minion_id) if environment else ["common.sls"]
    return [
        name.removesuffix(".sls").replace("/", ".")
        for name in names
        if not (missing(roots, [name]) or unreadable(roots, [name]) or unrendered(roots, [name]))
    ]


def completed(schemas, declared, hosts, minion_id):
    """Check what is declared of the formulas, and complete it.

    :param schemas: a mapping of formula to JSON Schema.
    :param declared: a mapping of formula to what is said of it.
    :param hosts: the inventory, checked: rows by host id.
    :param minion_id: the host's id.
    :return: a mapping of formula to settings, and a list of mistakes. With mistakes the mapping is of no use.

    CLI Example: none, it serves ``settings.compiled`` and the runner parity.
    """
    if mistakes := check(schemas, declared):
        return {}, mistakes
    settings = {key: with_defaults(schema, declared.get(key, {})) for key, schema in schemas.items()}
    settings, mistakes = __salt__["attachment.derived"](settings, hosts, minion_id)
    settings["nginx"] |= __salt__["balance.derived"](settings, hosts, minion_id)
    mistakes += __salt__["firewall.mistakes"](settings["firewall"])
    mistakes += unknown_processes(settings["app"])
    if not mistakes:
        settings["firewall"]["openings"] = __salt__["firewall.openings"](settings, hosts, minion_id)
    return settings, mistakes


def unknown_processes(apps):
    """List the process types of formations that the declared builds do not have, where the declaration names theirs.

    :param apps: the settings of all apps.
    :return: a message for each.
    """
    found = []
    for app, one in sorted(apps.items()):
        known = one["build"].get("processes") or []
        # No formation has it: it runs once, in a release.
        allowed = sorted(set(known) - {"release"})
        for kind, count in sorted(one["formation"].items()) if known else ():
            if count and kind not in known:
                close = difflib.get_close_matches(kind, allowed, 1)
                meant = f"; did you mean '{close[0]}'?" if close else ""
                found.append(
                    f"app.{app}.formation.{kind}: the declared build has no such process type; expected one of "
                    f"{', '.join(allowed) or 'none'}{meant}"
                )
    return found


def doubled(schemas, roots, environment, names):
    """List the variables and secrets that stand in a file of secrets and in another: one would count without a word.

    :param schemas: a mapping of formula to JSON Schema.
    :param roots: directories, in the order of the pillar roots.
    :param environment: the host's.
    :param names: of the files with secrets, below the roots; each need not be there.
    :return: a message for each.
    """
    others = ["common.sls", f"environments/{environment}.sls", f"builds/{environment}.sls"]
    secret, open_ = ({name: _said(roots, name) for name in group} for group in (names, others))
    return [
        f"{dotted(path)}: is in pillar/{name} and in pillar/{other} too; expected in one of them. Remove the other"
        for name, paths in secret.items()
        for other, there in open_.items()
        for path in sorted(paths & there, key=str)
        if _is_value(schemas, path)
    ]


def _is_value(schemas, path):
    """Tell whether a setting is a secret, or a variable of an app, which may be one."""
    part = {"properties": schemas}
    for key in path:
        part = _part(part, key)
        if part.get("secret"):
            return True
    return len(path) == 4 and (path[0], path[2]) == ("app", "config")


def _said(roots, name):
    """Return the paths of all that a pillar file sets, whichever root it is in."""
    found = set()
    for root in roots:
        path = os.path.join(root, name)
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
            text = stream.read()
            if _is_plain(text):
                content = salt.utils.yaml.safe_load(text)
            else:
                content = __salt__["slsutil.renderer"](path, default_renderer="jinja|yaml")
            found |= set(_leaves(content, ()))
    return found


def _leaves(value, path):
    """Yield the paths in a value at which there is no mapping."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif path:
        yield path


def confined(schema, value, roles):
    """Return settings without what is for hosts of other roles alone (``x-roles``).

    A master compiles the pillar of every host: one that is stolen, or does not behave, learns what its own roles need.

    :param schema: a JSON Schema of a mapping.
    :param value: settings that it accepts.
    :param roles: the host's.
    :return: a new mapping. Of a mapping that is for others nothing but its name is left.

    CLI Example: none, it serves ``settings.compiled``.
    """
    kept = {}
    for key, item in value.items():
        part = _part(schema, key)
        if "x-roles" in part and set(part["x-roles"]).isdisjoint(roles):
            if isinstance(item, dict):
                kept[key] = {}
        else:
            kept[key] = confined(part, item, roles) if isinstance(item, dict) else item
    return kept


def unreadable(roots, names):
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
            elif _is_plain(text) or not name.endswith(".sls"):
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


def _unknown_renderers(name, text):
    """Return the first line of a pillar file that names a renderer whose result nothing else here can read."""
    first = text.partition("\n")[0].removeprefix("#!") if text.startswith("#!") and name.endswith(".sls") else ""
    known = [set(part.split()[:1]) <= {"jinja", "yaml", "gpg"} for part in first.split("|")]
    is_yaml = not first or "yaml" in [part.strip() for part in first.split("|")]
    return "" if all(known) and is_yaml else f"#!{first[:40]!a}".replace("'", "")


def missing(roots, names):
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


def unrendered(roots, names):
    """List what keeps pillar files with Jinja from being YAML. Salt says no more than that they do not render.

    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them; each need not be there.
    :return: a message for each broken file.
    """
    found = []
    for root, name in itertools.product(roots, names):
        path = os.path.join(root, name)
        try:
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            if not _is_plain(text):
                content = __salt__["slsutil.renderer"](path, default_renderer="jinja|yaml")
                found += [f"pillar/{name}: {problem}" for problem in _misshapen(name, content)]
        except (OSError, UnicodeDecodeError):
            # That is told already; see unreadable.
            continue
        except SaltException:
            line = text[: _JINJA.search(text).start()].count("\n") + 1
            found.append(
                f"pillar/{name}: line {line}: Jinja that does not render; expected YAML of it. "
                f"`salt-call slsutil.renderer {path}` says why. "
                "To keep a value that looks like Jinja as it is, make the first line #!yaml"
            )
    return found


def _misshapen(name, content):
    """List why the content of a pillar file cannot be settings, whatever they are."""
    if content is not None and not isinstance(content, dict):
        return [f"found {_kind(content)}; expected mapping"]
    if content and "include" in content and name.endswith(".sls"):
        return ["include: not here; expected settings alone"]
    # A list or a mapping that holds itself, by an alias of YAML, has no end.
    level = [content or {}]
    for _ in range(MAX_DEPTH):
        parts = (part for item in level for part in (item.values() if isinstance(item, dict) else item))
        level = list({id(part): part for part in parts if isinstance(part, dict | list)}.values())
    return [f"{TOO_DEEP}; expected settings"] if level else []


def misplaced(schemas, roots, names):
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
        if not _is_plain(text):
            line = text[: _JINJA.search(text).start()].count("\n") + 1
            found.append(
                f"pillar/{name}: line {line}: Jinja; expected plain YAML, which says the same of every host. "
                "To keep a value that looks like Jinja as it is, make the first line #!yaml"
            )
            continue
        declared = salt.utils.yaml.safe_load(text)
        for path in fixed({"properties": schemas}, declared, []):
            found.append(f"{dotted(path)}: does not vary; expected in pillar/common.sls, not in pillar/{name}")
    return found


def undeclared(roots, environment, declared):
    """Find apps that an environment's files name and ``common.sls`` does not, such as one that was removed there alone.

    :param roots: directories, in the order of the pillar roots.
    :param environment: its name.
    :param declared: what all files say of the formulas.
    :return: by app, a message for each file that names it.

    CLI Example: none, it serves ``settings.compiled`` and the runner parity.
    """
    found, known = {}, _named_apps(roots, "common.sls", declared)
    for kind, (what, removal) in OF_AN_APP.items():
        if kind == "secrets" and environments.is_ephemeral(roots, environment):
            # They stand there in clear, and are edited by hand.
            removal = OF_AN_APP["environments"][1]
        for app in sorted(_named_apps(roots, f"{kind}/{environment}.sls") - known):
            # A name that is none is no word of a command.
            way = removal if APP_NAME.fullmatch(app) else "remove the name from this file"
            close = difflib.get_close_matches(app, sorted(known), 1, cutoff=0.8)
            meant = f"did you mean app.{close[0]}? Otherwise" if close else "expected the app there too, or else"
            found.setdefault(app, []).append(
                f"{dotted(['app', app])}: pillar/{kind}/{environment}.sls {what} that pillar/common.sls does not "
                f"declare; {meant} {way.format(app=app, env=environment)}"
            )
    return found


# How the module attachment says that settings of a resource are of no app, such as one that was removed.
UNATTACHED = ": no app attaches it; "


def located(message, roots, names, environment):
    """Add to a message of a resource that no app attaches which files name it, and what removes it there.

    :param message: any message; others are returned as they are.
    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them.
    :param environment: whose files these are.
    """
    path, told, _ = message.partition(UNATTACHED)
    if not told:
        return message
    removals = []
    for root, name in itertools.product(roots, names):
        content = None
        if os.path.exists(file := os.path.join(root, name)):
            with open(file, encoding="utf-8") as stream:
                text = stream.read()
            content = salt.utils.yaml.safe_load(text) if _is_plain(text) else None
        for key in path.split("."):
            content = content.get(key) if isinstance(content, dict) else None
        if content is not None:
            is_encrypted = name.startswith("secrets/") and not environments.is_ephemeral(roots, environment)
            by = f" with make secret-remove ENV={environment} NAME={path}" if is_encrypted else ""
            removals.append(f"remove it from pillar/{name}{by}")
    return "; ".join([message, *removals])


def _named_apps(roots, name, rendered=None):
    """Return the names of the apps in a pillar file.

    :param name: of a file below the roots; it need not be there.
    :param rendered: what the pillar says, for a file with Jinja: its apps with a port.
    """
    named = set()
    for root in roots:
        path = os.path.join(root, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            content = salt.utils.yaml.safe_load(text) if _is_plain(text) else None
            apps = content.get("app") if isinstance(content, dict) else None
            named |= {app for app in apps if isinstance(app, str)} if isinstance(apps, dict) else set()
            if not _is_plain(text) and rendered and isinstance(rendered.get("app"), dict):
                apps = rendered["app"].items()
                named |= {app for app, one in apps if isinstance(one, dict) and "port" in one}
    return named


def fixed(schema, value, path):
    """List the settings in a value that are the same in every environment.

    :param schema: a JSON Schema; ``varies: true`` holds for all that is below it.
    :param value: what is said of it. What the schema does not know is passed over.
    :param path: where that is.
    :return: paths.
    """
    if schema.get("varies"):
        return []
    parts = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
    if not parts:
        return [path]
    found = []
    for key, item in value.items() if isinstance(value, dict) else ():
        part = _part(schema, key)
        found += fixed(part, item, [*path, key]) if part else []
    return found


def parted(schema, value):
    """Part what is declared into what is the same in every environment and what varies.

    :param schema: a JSON Schema of a mapping.
    :param value: what is said of it.
    :return: two mappings.

    CLI Example: none, it serves the runner parity.
    """
    same, varying = {}, {}
    for key, item in value.items():
        part = _part(schema, key)
        if part.get("varies"):
            varying[key] = item
        elif isinstance(item, dict) and (part.get("properties") or part.get("patternProperties")):
            below, own = parted(part, item)
            same[key] = below
            if own:
                varying[key] = own
        else:
            same[key] = item
    return same, varying


def _part(schema, key):
    """Return the schema of a key of a mapping, empty where the mapping has no such key."""
    patterns = schema.get("patternProperties", {}).items()
    by_pattern = (part for pattern, part in patterns if re.search(pattern, str(key)))
    return schema.get("properties", {}).get(key) or next(by_pattern, {})


_JINJA = re.compile(r"\{[{%#]")


def _is_plain(text):
    """Tell whether Salt takes a pillar file as YAML alone."""
    return text.startswith("#!yaml") or not _JINJA.search(text)


def _problem(error):
    """Say what is wrong with YAML, and where."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    # These name what they found, which may be a part of a secret: `!x`, `*x`, `{x: y}: z`.
    if not isinstance(error, yaml.parser.ParserError | yaml.scanner.ScannerError):
        problem = re.split(r" ['\[]", problem)[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def read_schemas(roots):
    """Read the schemas below the file roots.

    :param roots: directories, in the order of the file roots.
    :return: a mapping of formula to schema, and of ``hosts`` to the inventory's.
    """
    schemas = {}
    for root in roots:
        for path in sorted(glob.glob(os.path.join(root, "*", "settings.yaml"))):
            name = os.path.basename(os.path.dirname(path))
            with open(path, encoding="utf-8") as stream:
                schemas[INVENTORY_KEY if name == "roles" else name] = yaml.load(stream, _YamlLoader)
    return schemas


# PyYAML's C loader is four times as fast. Not every build has it.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(schemas, settings):
    """List the mistakes in settings, by path.

    :param schemas: a mapping of formula to JSON Schema.
    :param settings: a mapping of formula to what the pillar says.
    :return: a message for each mistake, sorted by path.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    # JSON Schema takes 8100.0 for an integer. YAML tells them apart, and so do nginx and PostgreSQL.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator = extend(Draft202012Validator, type_checker=types)
    # The library would read a schema that names its dialect with the dialect's own types.
    schemas = {
        key: {word: part for word, part in schema.items() if word != "$schema"} for key, schema in schemas.items()
    }
    whole = {"type": "object", "properties": schemas, "additionalProperties": False}
    # A formula that the pillar does not mention must still have what it requires.
    found = {}
    asked = {key: {} for key in schemas} | _with_names(settings, [], found)
    for error in validator(whole).iter_errors(asked):
        for path, message in _messages(error):
            found.setdefault(path, message)
    return [f"{path}: {message}" for path, message in sorted(found.items())]


def _with_names(value, path, found):
    """Return a value without the keys that YAML does not read as text, such as ``on`` and ``1``, and note these."""
    if isinstance(value, list):
        return [_with_names(item, [*path, index], found) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    for key in value:
        if not isinstance(key, str):
            found[dotted([*path, str(key)])] = f"YAML reads this name as {_kind(key)}; expected text; put it in quotes"
    return {key: _with_names(item, [*path, key], found) for key, item in value.items() if isinstance(key, str)}


def _messages(error):
    """Yield (path, message) for an error of the jsonschema library."""
    path = list(error.absolute_path)
    keyword, schema, instance = error.validator, error.schema, error.instance
    if keyword == "additionalProperties":
        # x-names: names that are usual where any may be given.
        known = [*schema.get("properties", {}), *schema.get("x-names", [])]
        patterns = list(schema.get("patternProperties", {}))
        for key in instance:
            if key in schema.get("properties", {}) or any(re.search(p, key) for p in patterns):
                continue
            # x-moved: former names, and what they are called now.
            now = schema.get("x-moved", {}).get(key)
            yield dotted([*path, key]), f"is called '{now}' now; rename it" if now else _unknown(key, known, schema)
    elif keyword == "required":
        for key in error.validator_value:
            if key not in instance:
                yield dotted([*path, key]), f"missing; {expected(schema.get('properties', {}).get(key, {}))}"
    elif keyword == "type":
        hint = "; put it in quotes" if schema.get("type") == "string" and _is_scalar(instance) else ""
        yield dotted(path), f"found {_kind(instance)}; {expected(schema)}{hint}"
    elif keyword == "enum":
        close = difflib.get_close_matches(str(instance), [str(v) for v in error.validator_value], 1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        yield dotted(path), f"expected one of {', '.join(str(v) for v in error.validator_value)}{meant}"
    else:
        yield dotted(path), f"not acceptable; {expected(schema)}"


def _unknown(key, known, schema):
    close = difflib.get_close_matches(key, known, 1)
    if close:
        return f"unknown setting; did you mean '{close[0]}'?"
    if schema.get("patternProperties"):
        return f"a name that cannot be used here; expected {schema.get('x-expected', 'another name')}"
    return f"unknown setting; expected one of {', '.join(sorted(known)) or 'none'}"


def expected(schema):
    """Say what a schema expects, in words.

    :param schema: a JSON Schema.
    :return: such as ``expected integer from 0 to 49 (Processes of this type)``.
    """
    # Where names are free, it is the names that x-expected speaks of.
    if "x-expected" in schema and "patternProperties" not in schema:
        return f"expected {schema['x-expected']}"
    words = TYPES.get(schema.get("type"), schema.get("type", "something else"))
    if "enum" in schema:
        words = f"one of {', '.join(str(v) for v in schema['enum'])}"
    if "minimum" in schema and "maximum" in schema:
        words += f" from {schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        words += f" of {schema['minimum']} or more"
    if "maxLength" in schema:
        words += f" of at most {schema['maxLength']} characters"
    if schema.get("minItems") or schema.get("minProperties"):
        words += " that is not empty"
    if schema.get("uniqueItems"):
        words += " without repeats"
    about = " ".join(schema.get("description", "").split()).rstrip(".")
    return f"expected {words}" + (f" ({about})" if about else "")


def _kind(value):
    if isinstance(value, dict):
        return "mapping"
    if isinstance(value, list):
        return "list"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "nothing"}
    return kinds.get(type(value), "date")


def _is_scalar(value):
    return not isinstance(value, list | dict | type(None))


def dotted(path):
    """Write a path as people read it.

    :param path: keys and list indexes, outermost first.
    :return: such as ``app.tickets.domains[0]``.

    CLI Example: none, it serves the modules that name settings.
    """
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        else:
            # A key is no secret, but it may be anything: keep a message on one line, and its ends in sight.
            name = str(part).encode("unicode_escape").decode("ascii")
            name = name if len(name) <= 80 else name[:77] + "..."
            text += f".{name}" if name and " " not in name else f".'{name}'"
    return text.removeprefix(".")


def with_defaults(schema, value):
    """Complete a value with the defaults of its schema.

    A mapping that has settings of its own starts out empty where it is not given, so that its defaults count too.

    :param schema: a JSON Schema; its ``properties``, ``patternProperties`` and ``items`` are followed.
    :param value: a value that the schema accepts.
    :return: a new value; ``value`` is left as it is.
    """
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return copy.deepcopy(value)
    complete = {}
    properties = schema.get("properties", {})
    for key, part in properties.items():
        if key in value:
            continue
        if "default" in part:
            complete[key] = with_defaults(part, part["default"])
        elif part.get("type") == "object" and not part.get("x-optional"):
            complete[key] = with_defaults(part, {})
    for key, item in value.items():
        complete[key] = with_defaults(_part(schema, key), item)
    return complete
