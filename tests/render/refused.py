"""How a run ends that the pillar's check refuses."""

import re


def assert_refused(code, output, messages):
    """Ask of a run that it ended with these messages, each on a line of its own, and with no traceback."""
    assert code != 0
    assert "Traceback" not in output
    lines = [re.sub(r'^[\s"-]+|[",]+$', "", line) for line in output.splitlines()]
    # The first message may stand on the line that names the function.
    lines = [line.partition("Error running 'settings.load': ")[2] or line for line in lines]
    assert [line for line in lines if line in messages] == messages
    # Nothing ran: no state has a result.
    assert "Result:" not in output
    assert "__run_num__" not in output
