"""Text that others have written, for people's terminals: it commands none of them, and hides nothing."""

import re
import unicodedata
from typing import Any

# All that need be looked at more closely. The rest are tab, newline and what ASCII shows.
OTHER = re.compile("[^\t\n -~]")
# What shows nothing, though Unicode counts it among letters, marks and signs: fillers, joiners of marks, variants.
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def escaped(text: str) -> str:
    r"""Write the characters that a terminal would obey, or that nobody sees, as ``\x1b``. Tabs and newlines stay.

    They are control characters, separators of lines, and what has no shape: marks of the direction of writing, joiners,
    what is private or unassigned. Joiners have a use in some scripts; a line that seems to say something else has none.

    :param text: what a process, a build or a client has said.
    :return: the text, such that a terminal shows all of it.
    """
    return OTHER.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    char = match[0]
    if (char.isprintable() and not BLANK.match(char)) or unicodedata.category(char) == "Zs":
        return char
    code = ord(char)
    # A byte that is no UTF-8, as Python reads it where it is told to keep it.
    code = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(value: Any) -> Any:
    """Do the same with each text in a value, its keys included; see ``escaped``.

    :param value: of JSON.
    """
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {shown(name): shown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value
