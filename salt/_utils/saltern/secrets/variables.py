"""Config variables in the files that people have: the lines of a ``.env``, and the JSON of ``heroku config --json``."""

import io
import json
import math
import re
from urllib.parse import urlsplit

from dotenv.parser import parse_stream

from saltern.refusal import Refusal

# Words in a variable's name that tell of a secret.
SECRET = re.compile(
    r"(^|_)(AUTH|CREDENTIALS?|DSN|KEYS?|PASS|PASSPHRASE|PASSWD|PASSWORDS?|PEPPER|PRIVATE|PW|PWD|SALT|SECRETS?|TOKENS?)"
    r"(_|$)|APIKEY|PASSWORD|SECRET|TOKEN",
    re.IGNORECASE,
)
# What looks made by chance, such as the tokens of many services: letters and digits without a word's shape.
RANDOM = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
# Bits of each character, above which such a text is no word. Hexadecimal digits have 4 at most, English some 3.5.
ENTROPY = 3.6
JINJA = re.compile(r"\{[{%#]")


def parsed(text: str, name: str) -> dict[str, str]:
    """Return the variables that a text sets.

    A ``.env`` is read as python-dotenv reads it: ``export``, comments, quotes, and in double quotes ``\\n`` and the
    like. A ``$`` stays one, whatever follows.

    :param text: the lines of a ``.env``, or a JSON mapping of names to text.
    :param name: the file's, for messages.
    :raises Refusal: with all lines that cannot be read. No value is in it.
    """
    return _of_json(text, name) if text.lstrip().startswith("{") else _of_lines(text, name)


def _of_json(text: str, name: str) -> dict[str, str]:
    found: list[str] = []

    def told_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        found.extend(
            f"{name}: {key}: is there twice; expected it once" for key in sorted(set(keys)) if keys.count(key) > 1
        )
        return dict(pairs)

    try:
        said = json.loads(text, object_pairs_hook=told_once)
    except ValueError as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "all of it"
        raise Refusal(
            f"{name}: {where}: no JSON; expected what `heroku config --json` prints, or lines NAME=value"
        ) from None
    found += [
        f"{name}: {key}: no text; expected text in quotes" for key, value in said.items() if not isinstance(value, str)
    ]
    if found:
        raise Refusal("\n".join(found))
    return dict(said)


def _of_lines(text: str, name: str) -> dict[str, str]:
    values: dict[str, str] = {}
    found: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        # What begins with empty lines is told by its first line that has text.
        said = binding.original.string
        line = binding.original.line + said[: len(said) - len(said.lstrip())].count("\n")
        if binding.error or (binding.key and binding.value is None):
            found.append(f"{name}: line {line}: cannot be read; expected NAME=value, with quotes closed")
        elif binding.key in values:
            found.append(f"{name}: line {line}: {binding.key} is there twice; expected it once")
        elif binding.key:
            values[binding.key] = binding.value or ""
    if found:
        raise Refusal("\n".join(found))
    return values


def is_secret(name: str, value: str) -> bool:
    """Tell whether a variable looks like a secret: by its name, a password in a URL, a key, or letters by chance.

    :param name: the variable's.
    :param value: its.
    """
    if SECRET.search(name) or "PRIVATE KEY-----" in value or _has_password(value):
        return bool(value)
    return any(_is_random(part) for part in RANDOM.findall(value))


def _has_password(value: str) -> bool:
    try:
        return urlsplit(value).password is not None
    except ValueError:
        # Nobody knows what it is.
        return "@" in value


def _is_random(text: str) -> bool:
    if not (re.search("[A-Za-z]", text) and re.search("[0-9]", text)):
        return False
    counts = [text.count(character) for character in set(text)]
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts) > ENTROPY
