"""What an operator must know, at the end of each converge."""


def told(name):
    """Tell what an operator must know of this host, whatever else the run shows; see ``notes.of_host``.

    :param name: what is told, in words.
    """
    # A master's job may be the orchestration that has drained the host, and that puts it in again afterwards.
    notes = __salt__["notes.of_host"](for_a_while=__opts__.get("__cli") != "salt-minion")
    return {"name": name, "changes": {}, "result": True} | __salt__["notes.tell"](notes)
