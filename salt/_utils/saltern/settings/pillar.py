"""The pillar of a host: what its files say, checked against the schemas of the formulas and completed.

Each formula's ``settings.yaml`` is a JSON Schema (draft 2020-12). The ``jsonschema`` library validates; the defaults,
the paths and the wording of the messages are Saltern's. A message names a path and what was expected, never a value: it
may be a secret.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from saltern import environments, inventory
from saltern.paths import Roots
from saltern.secrets import files as secrets
from saltern.settings import undeclared
from saltern.settings.check import check
from saltern.settings.complete import completed
from saltern.settings.files import Render, doubled, misplaced, missing, unreadable, unrendered
from saltern.settings.load import DECLARED_KEY
from saltern.settings.schema import INVENTORY_KEY, confined, read_schemas
from saltern.tls import host as certificates
from saltern.tls import https


def compiled(
    pillar: Mapping[str, Any], minion_id: str, tree: Roots, keyring: secrets.Keyring, render: Render
) -> tuple[dict[str, Any], list[str]]:
    """Check and complete a host's pillar.

    :param pillar: what the pillar files say.
    :param minion_id: the host's id.
    :param tree: the directories of the tree.
    :param keyring: where the key is that decrypts the pillar.
    :param render: returns what Salt makes of a pillar file.
    :return: a mapping of formula to settings, and a list of mistakes. With mistakes the mapping is of no use.
    """
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
    if broken := missing(roots, files[:2]) or unreadable(roots, files) or unrendered(roots, files, render):
        return {}, broken
    if INVENTORY_KEY in pillar and (DECLARED_KEY not in pillar or pillar[INVENTORY_KEY] != row[INVENTORY_KEY]):
        return {}, ["hosts: set in a pillar file; expected in pillar/hosts.yaml alone"]
    declared = {
        key: value for key, value in pillar.items() if key not in (INVENTORY_KEY, DECLARED_KEY, environments.KEY)
    }
    # Salt 3008 compiles a pillar again over the one that it has, for pillar.items and for a pillar on the command line.
    # Then all that the files do not mention was completed the first time.
    if DECLARED_KEY in pillar:
        declared = {key: value for key, value in declared.items() if key in pillar[DECLARED_KEY]}
    mistakes = environments.mistakes(roots, environment, pillar.get(environments.KEY))
    mistakes += misplaced(schemas, roots, own)
    partial = undeclared.apps(roots, environment, declared)
    mistakes += [message for messages in partial.values() for message in messages]
    if partial and isinstance(declared.get("app"), dict):
        # Without the app's port, no other mistake in its settings can be found.
        declared = declared | {"app": {app: one for app, one in declared["app"].items() if app not in partial}}
    mistakes += secrets.mistakes(roots, environment, minion_id, pillar, schemas, keyring)
    # A value that could not be decrypted, or is in the wrong place, has one message already.
    named = {message.partition(": ")[0] for message in mistakes}
    twice = doubled(schemas, roots, environment, own[2:], render)
    mistakes += [message for message in twice if message.partition(": ")[0] not in named]
    settings, others = completed(schemas, declared, hosts, minion_id, roots)
    if not others:
        others += certificates.mistakes(settings["certificates"], hosts[minion_id], minion_id)
        others += https.mistakes(settings, hosts, minion_id)
    others = [undeclared.located(message, roots, files, environment) for message in others]
    mistakes += [message for message in others if message.partition(": ")[0] not in named]
    if mistakes:
        return {}, sorted(mistakes)
    told = confined({"properties": schemas}, settings, hosts[minion_id]["roles"])
    return row | told | {DECLARED_KEY: sorted(declared)}, []


def _files(environment: str, minion_id: str) -> list[str]:
    """Return the names of a host's pillar files: what all share, its environment's, and what need not be there."""
    own = [f"{kind}/{environment}.sls" for kind in ("environments", "builds", "secrets")]
    return ["common.sls", *own, secrets.certificates(environment, minion_id)]


def loadable(environment: str, minion_id: str, roots: Sequence[str], render: Render) -> list[str]:
    """List the pillar files of a host that Salt can load, for ``pillar/top.sls``.

    Salt says little about a file that it cannot load, in several messages or a traceback. So Salt does not get such a
    file, and ``compiled`` says what is wrong with it.

    :param environment: the host's. Empty where the inventory does not say it.
    :param minion_id: the host's id.
    :param roots: directories, in the order of the pillar roots.
    :param render: returns what Salt makes of a pillar file.
    :return: names as a top file has them, such as ``environments.dev``.
    """
    names = _files(environment, minion_id) if environment else ["common.sls"]
    return [
        name.removesuffix(".sls").replace("/", ".")
        for name in names
        if not (missing(roots, [name]) or unreadable(roots, [name]) or unrendered(roots, [name], render))
    ]
