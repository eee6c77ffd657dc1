"""Settings: what the pillar says of each formula, checked against its schema and completed with its defaults.

Each formula's ``settings.yaml`` is a JSON Schema (draft 2020-12). The ``jsonschema`` library validates; the defaults,
the paths and the wording of the messages are ours. A message names a path and what was expected, never a value: it
may be a secret.
"""

import copy
import difflib
import itertools
import os
import re

import salt.utils.yaml
from salt.exceptions import CommandExecutionError

from saltern import environments, firewall, inventory, places, services
from saltern.attachments import derived
from saltern.paths import Roots
from saltern.secrets import files as secrets
from saltern.settings.check import check
from saltern.settings.defaults import with_defaults
from saltern.settings.files import doubled, is_plain, misplaced, missing, unreadable, unrendered
from saltern.settings.messages import dotted
from saltern.settings.schema import INVENTORY_KEY, confined, read_schemas
from saltern.tls import host as certificates
from saltern.tls import https
from saltern.web import balance

__load__ = ["compiled", "completed", "load", "loadable", "undeclared"]

# In the compiled pillar: the formulas that the pillar files mention.
DECLARED_KEY = "_declared"

APP_NAME = re.compile("[a-z][a-z0-9-]*")

# What files of one environment may say of an app, and what takes it out again. {env} and {app} are put in.
OF_AN_APP = {
    "environments": ("has settings of an app", "remove app.{app} from this file"),
    "builds": ("declares a build of an app", "remove the build with make build-forget APP={app} ENV={env}"),
    "secrets": ("has secrets of an app", "remove them with make secret-remove ENV={env} NAME=app.{app}"),
}


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
    # Of what a URL has replaced, nothing can be taken out of a pillar.
    if service := services.formulas().get(formula):
        found[service.plural] = service.owned(found)
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
    if broken := missing(roots, files[:2]) or unreadable(roots, files) or unrendered(roots, files, _rendered):
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
    mistakes += secrets.mistakes(roots, environment, minion_id, pillar, schemas, _gpg())
    # What could not be decrypted, or is in the wrong place, is not judged as well.
    named = {message.partition(": ")[0] for message in mistakes}
    twice = doubled(schemas, roots, environment, own[2:], _rendered)
    mistakes += [message for message in twice if message.partition(": ")[0] not in named]
    settings, others = completed(schemas, declared, hosts, minion_id)
    if not others:
        others += certificates.mistakes(settings["certificates"], hosts[minion_id], minion_id)
        others += https.mistakes(settings, hosts, minion_id)
    others = [located(message, roots, files, environment) for message in others]
    mistakes += [message for message in others if message.partition(": ")[0] not in named]
    if mistakes:
        return {}, sorted(mistakes)
    own = confined({"properties": schemas}, settings, hosts[minion_id]["roles"])
    return row | own | {DECLARED_KEY: sorted(declared)}, []


def _files(environment, minion_id):
    """Return the names of the pillar files of a host: what all share, its environment's, and what need not be there."""
    own = [f"{kind}/{environment}.sls" for kind in ("environments", "builds", "secrets")]
    return ["common.sls", *own, secrets.certificates(environment, minion_id)]


def _rendered(path):
    """Return what Salt makes of a pillar file."""
    return __salt__["slsutil.renderer"](path, default_renderer="jinja|yaml")


def _gpg():
    """Return where the host's key is; who verifies a host has an agent that knows passphrases, a master one for all."""
    directory = __opts__.get("gpg_keydir", "")
    # The host's own lies beside its configuration.
    is_own = os.path.dirname(directory) == os.path.dirname(__opts__.get("conf_file", ""))
    return secrets.Keyring(directory, is_own and __opts__.get("__role") != "master")


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
        if not (missing(roots, [name]) or unreadable(roots, [name]) or unrendered(roots, [name], _rendered))
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
    settings, mistakes = derived.derive(settings, hosts, minion_id)
    settings["nginx"] |= balance.derived(settings, hosts, minion_id, __opts__["pillar_roots"]["base"])
    mistakes += firewall.mistakes(settings["firewall"])
    mistakes += unknown_processes(settings["app"])
    if not mistakes:
        settings["firewall"]["openings"] = firewall.openings(settings, hosts, minion_id)
        roles = {"app", *(service.role for service in services.resources())}
        peers = {role: inventory.peers(hosts, minion_id, role) for role in roles}
        places.derive(settings, hosts, minion_id, peers)
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


def located(message, roots, names, environment):
    """Add to a message of a resource that no app attaches which files name it, and what removes it there.

    :param message: any message; others are returned as they are.
    :param roots: directories, in the order of the pillar roots.
    :param names: of files below them.
    :param environment: whose files these are.
    """
    path, told, _ = message.partition(derived.UNATTACHED)
    if not told:
        return message
    removals = []
    for root, name in itertools.product(roots, names):
        content = None
        if os.path.exists(file := os.path.join(root, name)):
            with open(file, encoding="utf-8") as stream:
                text = stream.read()
            content = salt.utils.yaml.safe_load(text) if is_plain(text) else None
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
            content = salt.utils.yaml.safe_load(text) if is_plain(text) else None
            apps = content.get("app") if isinstance(content, dict) else None
            named |= {app for app in apps if isinstance(app, str)} if isinstance(apps, dict) else set()
            if not is_plain(text) and rendered and isinstance(rendered.get("app"), dict):
                apps = rendered["app"].items()
                named |= {app for app, one in apps if isinstance(one, dict) and "port" in one}
    return named
