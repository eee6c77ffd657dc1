"""Holds: a converge does not move an app that is held at a release."""

import json
import os

from saltern.releases import history, store
from saltern.releases.store import Record
from saltern.system import files


def _path(app: str) -> str:
    return f"{store.ROOT}/{app}/hold.json"


def held(app: str) -> Record:
    """Return the hold: ``release``, ``from``, ``until``, ``time`` and ``who``. Empty where there is none.

    A hold names its release. Once another release is current, the hold is void.

    :param app: the app's name.
    """
    path = _path(app)
    found = store.parsed(path)
    if os.path.lexists(path) and not {"release", "from", "until", "time", "who"} <= found.keys():
        # The file cannot be read: the app was held, and what it was held back from may be bad.
        return {"release": store.current(app), "from": None, "until": "unhold", "time": "a time", "who": "somebody"}
    return found


def hold(app: str, number: int, left: int | None, until: str) -> None:
    """Hold an app at a release.

    :param app: the app's name.
    :param number: the release that is to stay.
    :param left: the release that the pillar still asks for, or ``None``.
    :param until: ``another``, when the pillar asks for something else; or ``unhold``.
    """
    what = {"release": number, "from": left, "until": until, "time": history.now(), "who": history.who()}
    files.write(_path(app), json.dumps(what) + "\n", 0o640, 0, 0)


def unhold(app: str) -> None:
    """Hold an app no longer.

    :param app: the app's name.
    """
    store.clear(_path(app))
