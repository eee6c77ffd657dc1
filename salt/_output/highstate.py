"""Salt's report of a converge, and after it what an operator must know.

A state says that in its ``warnings``. Salt's own outputter shows these only where it shows the state, which
``state_verbose`` and others decide; here no option hides them. Nor does what a process, a build or a client has said
command the terminal.
"""

import salt.output.highstate as report
import salt.utils.color

from saltern.system import terminal

__virtualname__ = "highstate"


def __virtual__():
    return __virtualname__


def output(data, **options):
    """Return the report.

    :param data: what states returned, by host.
    :param options: of Salt's own outputter.

    CLI Example:

    .. code-block:: bash

        salt-call state.apply
    """
    report.__opts__ = __opts__
    data = terminal.shown(data)
    # Salt's outputter changes the data that it is given.
    notes = noted(data)
    text = report.output(data, **options)
    if not notes or not isinstance(text, str):
        return text
    colors = salt.utils.color.get_colors(__opts__.get("color"), __opts__.get("color_theme"))
    lines = [f"{colors['LIGHT_YELLOW']}note: {note}{colors['ENDC']}" for note in notes]
    return "\n".join([text, "", *lines])


def noted(data, host=""):
    """Return the warnings of all states, each once, those of an orchestration's hosts too.

    :param data: what states returned, or what holds that.
    :param host: whose it is, where an orchestration asked several.
    """
    found = []
    if isinstance(data, dict):
        if "__run_num__" in data:
            found += [f"{host}: {note}" if host else note for note in data.get("warnings") or []]
        if data.get("out") == "highstate" and isinstance(data.get("ret"), dict):
            found += [note for name, states in data["ret"].items() for note in noted(states, name)]
        else:
            found += [note for value in data.values() for note in noted(value, host)]
    return list(dict.fromkeys(found))
