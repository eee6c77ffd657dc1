"""Text that goes to people, without values of an app's config."""

import contextlib
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

# Shorter values are too likely to be ordinary words of a log line.
SHORTEST_SECRET = 8


def masked(text: str, environ: Mapping[str, str]) -> str:
    """Put a variable's name in place of its value.

    :param text: what goes to people.
    :param environ: value by variable.
    :return: the text without values of eight or more characters, and without passwords that stand in them as in a URL.
    """
    secrets = [(value, name) for name, value in environ.items()]
    for name, value in environ.items():
        with contextlib.suppress(ValueError):
            password = urlsplit(value).password or ""
            secrets += [(password, name), (unquote(password), name)]
    for value, name in sorted(secrets, key=lambda secret: -len(secret[0])):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"<{name}>")
    return text
