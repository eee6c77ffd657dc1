"""Who may open an app's site: by address, by password, or by either."""

from collections.abc import Mapping
from typing import Any

from saltern import networks
from saltern.web import paths

Settings = Mapping[str, Any]

# What nginx does with a request: it answers, asks for a password, or refuses.
OPEN, PASSWORD, REFUSED = "open", "password", "refused"

# The longest password that crypt(3) hashes, in bytes: libxcrypt's CRYPT_MAX_PASSPHRASE_SIZE, which has a NUL.
LONGEST = 511


def is_declared(access: Settings) -> bool:
    """Tell whether a site is not for everybody.

    :param access: the setting ``app.<name>.site.access``.
    """
    return bool(access["users"] or access["allow"] or access["deny"])


def mistakes(app: str, one: Settings) -> list[str]:
    """List the mistakes in who may open an app's site.

    :param app: its name.
    :param one: its settings, with defaults.
    """
    where, access = f"app.{app}.site.access", one["site"]["access"]
    found = [message for word in ("allow", "deny") for message in networks.faults(f"{where}.{word}", access[word])]
    for user, password in sorted(access["users"].items()):
        found += [f"{where}.users.{user}: {wrong}" for wrong in _unhashable(password)]
    if found:
        return found
    allowed = {networks.whole(text) for text in access["allow"]}
    for index, text in enumerate(access["deny"]):
        if networks.whole(text) in allowed:
            found.append(f"{where}.deny[{index}]: is in {where}.allow too; expected it in one of them")
    for word in ("paths", "exempt_paths"):
        if access[word] and not is_declared(access):
            found.append(f"{where}.{word}: nobody is kept out; expected users, allow or deny beside it")
    for index, exempt in enumerate(access["exempt_paths"]):
        for path in access["paths"]:
            if exempt.endswith("/") and f"{path.rstrip('/')}/".startswith(exempt):
                found.append(
                    f"{where}.exempt_paths[{index}]: would open all of {path}, which is in {where}.paths; expected a "
                    "path below it"
                )
    return found


def derived(one: Settings) -> dict[str, Any]:
    """Return what nginx needs of who may open an app's site. No password is in it.

    :param one: the app's settings, without mistakes.
    :return: whether it ``counts``: the site is not for everybody; whether it ``asks`` for passwords; what is done with
        each of the ``networks`` and with all ``others``; and the regular expressions of the ``paths`` for which it
        counts, but for those that are ``exempt``.
    """
    access = one["site"]["access"]
    by_address = {networks.whole(text): REFUSED for text in access["deny"]}
    by_address |= {networks.whole(text): _allowed(access) for text in access["allow"]}
    return {
        "counts": is_declared(access),
        "asks": bool(access["users"]),
        "networks": by_address,
        "others": _others(access),
        "paths": [paths.below(path) for path in sorted(access["paths"]) or ["/"]],
        "exempt": [paths.covered(path) for path in sorted(access["exempt_paths"])],
    }


def _unhashable(password: str) -> list[str]:
    """Say why a password cannot be hashed, where it cannot: its user could never log in."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        return ["expected text that UTF-8 can encode"]
    return [f"is too long in UTF-8; expected at most {LONGEST} bytes"] if size > LONGEST else []


def _allowed(access: Settings) -> str:
    """Say what is done with a client whose address is allowed."""
    return PASSWORD if access["users"] and access["satisfy"] == "all" else OPEN


def _others(access: Settings) -> str:
    """Say what is done with a client whose address is in neither list."""
    if not access["allow"]:
        return PASSWORD if access["users"] else OPEN
    return PASSWORD if access["users"] and access["satisfy"] == "any" else REFUSED
