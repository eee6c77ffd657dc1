"""How a run ends when the check of the pillar refuses it."""

import re


def assert_refused(code, output, messages):
    """Check that a run ended with these messages, one a line, and without a traceback."""
    assert code != 0
    assert "Traceback" not in output
    lines = [re.sub(r'^[\s"-]+|[",]+$', "", line) for line in output.splitlines()]
    # The first message may follow the function's name on its line.
    lines = [line.partition("Error running 'settings.load': ")[2] or line for line in lines]
    assert [line for line in lines if line in messages] == messages
    # No state ran: none has a result.
    assert "Result:" not in output
    assert "__run_num__" not in output
