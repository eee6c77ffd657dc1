"""External pillar: checks the whole pillar of a host and completes it, each time that it is compiled.

Salt stops a run whose pillar has ``_errors`` before it looks at a single state, under ``test=True`` too, prints each
message and exits non-zero. Raising from Jinja instead would bury the message in tracebacks.
"""


def ext_pillar(minion_id, pillar, *_args, **_kwargs):
    """Return the host's settings, complete and checked, or what is wrong with them.

    :param minion_id: the host whose pillar this is.
    :param pillar: what the pillar files say.
    :return: a mapping of formula to settings, or ``{'_errors': [message, …]}``.
    """
    compiled, mistakes = __salt__["settings.compiled"](pillar, minion_id)
    return {"_errors": mistakes} if mistakes else compiled
