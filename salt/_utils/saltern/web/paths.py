"""Paths that people declare, as regular expressions of what nginx calls ``$uri``: decoded, without ``..`` and ``//``.

Whoever uses one says where the path begins.
"""


def below(path: str) -> str:
    """Write a regular expression of a path and all below it.

    :param path: with or without a slash at its end.
    """
    start = path.rstrip("/")
    return f"{literal(start)}(/|$)" if start else "/"


def covered(path: str) -> str:
    """Write a regular expression of a path alone, or of all below it where it ends with a slash.

    :param path: as it is declared.
    """
    # `$` alone would match before a line break too.
    return literal(path) + ("" if path.endswith("/") else "$(?!\\n)")


def literal(path: str) -> str:
    """Write a regular expression of a path's text: of what a declared path may have, the dot alone means more.

    :param path: as it is declared.
    """
    return path.replace(".", "[.]")
