"""The minions of a master: whose key it accepts."""

import re

import salt.key
import salt.utils.yaml
from salt.exceptions import CommandExecutionError
from salt.utils.crypt import pem_finger

__load__ = ["accept"]

FINGERPRINT = re.compile(r"([0-9a-f]{2}:){31}[0-9a-f]{2}")


def accept(minion_id, fingerprint):
    """Accept the key of a minion, where it is the one that bootstrap.sh told on that host.

    :param minion_id: a host of the inventory.
    :param fingerprint: the SHA-256 of its key, as bootstrap.sh told it.
    :return: what was done in a line, or why not and ``retcode`` 1: the host is not in the inventory, has not asked yet,
        or has another key.

    CLI Example:

    .. code-block:: bash

        salt-run minions.accept app1 3d:7c:…
    """
    try:
        return _accept(minion_id, str(fingerprint))
    except CommandExecutionError as error:
        # Salt would show an exception with its traceback.
        return {"data": {"retcode": 1, "refused": str(error)}, "outputter": __opts__.get("output", "nested")}


def _accept(minion_id, fingerprint):
    if not FINGERPRINT.fullmatch(fingerprint):
        raise CommandExecutionError(
            "fingerprint: expected 32 pairs of hexadecimal digits with colons between them, as bootstrap.sh told it on "
            f"{minion_id}"
        )
    if minion_id not in _inventory(minion_id):
        raise CommandExecutionError(f"{minion_id}: is not in pillar/hosts.yaml; add a row for it, or mend the id")
    with salt.key.get_key(__opts__) as keys:
        listed = keys.key_str(minion_id).items()
        found = {state: fingerprint_of(its[minion_id]) for state, its in listed if minion_id in its}
        verdict = judged(minion_id, fingerprint, found)
        if not verdict:
            keys.accept(match_dict={"minions_pre": [minion_id]})
            if minion_id not in keys.key_str(minion_id).get("minions", {}):
                raise CommandExecutionError(f"{minion_id}: Salt did not accept the key; its log says why")
    return verdict or f"{minion_id} is accepted"


def fingerprint_of(key):
    """Return the fingerprint of a key as a minion tells its own.

    `salt-key -f` of Salt 3008.3 has another one: it takes the first and the last line of the file along.

    :param key: in PEM.
    """
    lines = [line for line in key.splitlines(keepends=True) if line.strip()]
    return pem_finger(key="".join(lines[1:-1]), sum_type="sha256")


def judged(minion_id, fingerprint, found):
    """Say that there is nothing to do, or refuse.

    :param found: the fingerprints of the keys that came under this id, by what became of them, in Salt's words.
    :return: a line, or an empty string where the key is to be accepted.
    :raises CommandExecutionError: saying why not.
    """
    if found.get("minions") == fingerprint:
        return f"{minion_id} is accepted already"
    if "minions" in found:
        raise CommandExecutionError(
            f"{minion_id}: another key is accepted. Where the host was made anew, remove the old key with "
            f"salt-key -d {minion_id}, start salt-minion there again, and accept the new one"
        )
    if "minions_pre" not in found:
        raise CommandExecutionError(
            f"{minion_id}: no key has come from it; expected a host that was bootstrapped with --minion-of this "
            "master, and that can reach its ports 4505 and 4506"
        )
    if found["minions_pre"] != fingerprint:
        raise CommandExecutionError(
            f"{minion_id}: the key that came under this id has another fingerprint ({found['minions_pre']}); expected "
            f"the one that bootstrap.sh told on {minion_id}. Do not accept it: somebody else may have sent it; "
            f"remove it with salt-key -d {minion_id}"
        )
    return ""


def _inventory(minion_id):
    path = f"{__opts__['pillar_roots']['base'][0]}/hosts.yaml"
    try:
        with open(path, encoding="utf-8") as stream:
            hosts = salt.utils.yaml.safe_load(stream)
    except (OSError, salt.utils.yaml.YAMLError) as error:
        raise CommandExecutionError(f"{path}: {str(error).splitlines()[0]}; expected rows of hosts") from error
    if not isinstance(hosts, dict):
        raise CommandExecutionError(f"{path}: no rows of hosts; expected one for {minion_id}")
    return hosts
