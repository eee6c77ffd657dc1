"""External pillar: checks the whole pillar of a host and completes it, each time that it is compiled.

Salt stops a run whose pillar has ``_errors`` before it looks at a single state, under ``test=True`` too, prints each
message and exits non-zero. Raising from Jinja instead would bury the message in tracebacks.
"""

import sys


def ext_pillar(minion_id, pillar, *_args, **_kwargs):
    """Return the host's settings, complete and checked, or what is wrong with them.

    :param minion_id: the host whose pillar this is.
    :param pillar: what the pillar files say.
    :return: a mapping of formula to settings, or ``{'_errors': [message, …]}``.
    """
    # A master compiles one for its orchestrations as well, under an id of its own that is no host's.
    is_own = __opts__.get("__role") == "master" and minion_id == __opts__["id"]
    try:
        compiled, mistakes = ({}, []) if is_own else _compiled(pillar, minion_id)
    finally:
        # Salt lays what is returned over the pillar. So it would keep what the host must not be told, with a mistake
        # too, and a minion can make one by a pillar of its own (`pillar=`). Then Salt gives a copy to this function,
        # and the pillar itself is `__pillar__`.
        for one in (pillar, __pillar__):
            one.clear()
        # A master's workers live long, and would keep what they have imported.
        if __opts__.get("__role") == "master":
            _forget()
    return {"_errors": mistakes} if mistakes else compiled


def _compiled(pillar, minion_id):
    # Imported here, since a master forgets the package after each pillar.
    from saltern.paths import Roots
    from saltern.secrets.files import Keyring
    from saltern.settings.pillar import compiled

    def rendered(path):
        return __salt__["slsutil.renderer"](path, default_renderer="jinja|yaml")

    return compiled(pillar, minion_id, Roots.of(__opts__), Keyring.of(__opts__), rendered)


def _forget():
    """Have the package be imported anew the next time: the tree may have another by then."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "saltern"]:
        del sys.modules[name]
