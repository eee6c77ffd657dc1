"""What an operator must know, at the end of each converge."""


def told(name):
    """Have what an operator must know of this host be told, whatever is shown of the run; see ``notes.of_host``.

    :param name: what is told, in words.
    """
    return {"name": name, "changes": {}, "result": True} | __salt__["notes.tell"](__salt__["notes.of_host"]())
