"""Settings: what the pillar says of each formula, checked against its schema and completed with its defaults.

Each formula's ``settings.yaml`` is a JSON Schema (draft 2020-12). The ``jsonschema`` library validates; the defaults,
the paths and the wording of the messages are ours. A message names a path and what was expected, never a value: it
may be a secret.
"""

import copy
import difflib
import glob
import itertools
import os
import re

import salt.utils.yaml
import yaml
from salt.exceptions import CommandExecutionError

__load__ = ["compiled", "dotted", "load"]

# Not a formula's: the inventory, from pillar/hosts.yaml, with a schema of its own beside the roles.
INVENTORY_KEY = "hosts"

# In the compiled pillar: the formulas that the pillar files mention.
DECLARED_KEY = "_declared"

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
    return copy.deepcopy(__pillar__[formula])


def compiled(pillar, minion_id):
    """Check and complete a host's pillar.

    :param pillar: what the pillar files say.
    :param minion_id: the host's id.
    :return: a mapping of formula to settings, and a list of mistakes. With mistakes the mapping is of no use.
    :raises CommandExecutionError: when a pillar file is no YAML. Salt adds that to what it has to say itself; mistakes
        that are returned it would replace.

    CLI Example: none, it serves the external pillar ``settings``.
    """
    roots = __opts__["pillar_roots"]["base"]
    if broken := unreadable(roots, ["hosts.yaml"]):
        return {}, broken
    environment = __salt__["inventory.environment"](pillar.get(INVENTORY_KEY), minion_id)
    files = ["common.sls", *(f"{kind}/{environment}.sls" for kind in ("environments", "builds", "secrets"))]
    if broken := unreadable(roots, files):
        raise CommandExecutionError("\n".join(broken))
    schemas = read_schemas(__opts__["file_roots"]["base"])
    inventory = {INVENTORY_KEY: schemas.pop(INVENTORY_KEY)}
    mistakes = check(inventory, {key: pillar[key] for key in inventory if key in pillar})
    mistakes += [] if mistakes else __salt__["inventory.mistakes"](pillar[INVENTORY_KEY], minion_id)
    if mistakes:
        return {}, mistakes
    declared = {key: value for key, value in pillar.items() if key != INVENTORY_KEY and not str(key).startswith("_")}
    # Salt 3008 compiles a pillar again over the one that it has, for pillar.items and for a pillar on the command line.
    # What the files do not mention is then what was completed the first time.
    if DECLARED_KEY in pillar:
        declared = {key: value for key, value in declared.items() if key in pillar[DECLARED_KEY]}
    mistakes = __salt__["secrets.mistakes"](roots, environment, minion_id, pillar, schemas)
    named = {message.partition(": ")[0] for message in mistakes}
    mistakes += [message for message in check(schemas, declared) if message.partition(": ")[0] not in named]
    if mistakes:
        return {}, mistakes
    settings = {key: with_defaults(schema, declared.get(key, {})) for key, schema in schemas.items()}
    settings, mistakes = __salt__["attachment.derived"](settings, pillar[INVENTORY_KEY], minion_id)
    return settings | {DECLARED_KEY: sorted(declared)}, mistakes


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
            if text.startswith("#!yaml") or not re.search(r"\{[{%#]", text):
                salt.utils.yaml.safe_load(text)
        except FileNotFoundError:
            continue
        except UnicodeDecodeError:
            found.append(f"pillar/{name}: not in UTF-8; expected YAML in UTF-8")
        except salt.utils.yaml.YAMLError as error:
            found.append(f"pillar/{name}: {_problem(error)}; expected YAML")
    return found


def _problem(error):
    """Say what is wrong with YAML, and where."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    # These name what they found, which may be a part of a secret: `!x`, `*x`.
    if not isinstance(error, yaml.parser.ParserError | yaml.scanner.ScannerError):
        problem = problem.partition(" '")[0]
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
            yield dotted([*path, key]), _unknown(key, known, schema)
    elif keyword == "required":
        for key in error.validator_value:
            if key not in instance:
                yield dotted([*path, key]), f"missing; {_expected(schema.get('properties', {}).get(key, {}))}"
    elif keyword == "type":
        hint = "; put it in quotes" if schema.get("type") == "string" and _is_scalar(instance) else ""
        yield dotted(path), f"found {_kind(instance)}; {_expected(schema)}{hint}"
    elif keyword == "enum":
        close = difflib.get_close_matches(str(instance), [str(v) for v in error.validator_value], 1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        yield dotted(path), f"expected one of {', '.join(str(v) for v in error.validator_value)}{meant}"
    else:
        yield dotted(path), f"not acceptable; {_expected(schema)}"


def _unknown(key, known, schema):
    close = difflib.get_close_matches(key, known, 1)
    if close:
        return f"unknown setting; did you mean '{close[0]}'?"
    if schema.get("patternProperties"):
        return f"a name that cannot be used here; expected {schema.get('x-expected', 'another name')}"
    return f"unknown setting; expected one of {', '.join(sorted(known)) or 'none'}"


def _expected(schema):
    """Say what a schema expects, in words."""
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
            # A key is no secret, but it may be anything: keep a message on one line.
            name = str(part).encode("unicode_escape").decode("ascii")
            text += f".{name if len(name) <= 80 else name[:77] + '...'}"
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
        part = properties.get(key) or next(
            (part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, str(key))), {}
        )
        complete[key] = with_defaults(part, item)
    return complete
