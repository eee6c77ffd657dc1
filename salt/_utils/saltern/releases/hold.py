"""Whether an app is held at a release: a converge is not to move it on."""

import json
import os

from saltern.releases import history, store
from saltern.releases.store import Record
from saltern.system import files


def _path(app: str) -> str:
    return f"{store.ROOT}/{app}/hold.json"


def held(app: str) -> Record:
    """Return what is held: ``release``, ``from``, ``until``, ``time`` and ``who``. Empty where nothing is.

    A hold is of the release that it names. Once another one is current it is void.

    :param app: the app's name.
    """
    path = _path(app)
    found = store.parsed(path)
    if os.path.lexists(path) and not {"release", "from", "until", "time", "who"} <= found.keys():
        # That it was held is all that is known, and what it was held back from may be bad.
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
