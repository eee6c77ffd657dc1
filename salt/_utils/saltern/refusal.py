"""What a command on an operator's machine refuses."""


class Refusal(Exception):
    """What stands in the way, one mistake a line: the thing, what was expected, what to do."""
