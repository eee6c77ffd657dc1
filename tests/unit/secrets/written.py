"""The secrets file of a tree, and values that are hard to keep."""

import yaml

NAME = "app.tickets.config.SECRET_KEY"
FILE = "pillar/secrets/production.sls"


def contents(tree):
    return {path: path.read_bytes() for path in (tree / "pillar").rglob("*") if path.is_file()}


def messages(tree, environment="production"):
    """Return the PGP messages of a secrets file, by path."""
    found = {}

    def walk(value, path):
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        else:
            found[".".join(path)] = value

    walk(yaml.safe_load((tree / f"pillar/secrets/{environment}.sls").read_text()), ())
    return found


VALUES = {
    "a word": b"hunter2",
    "spaces and quotes": b' it\'s "quoted" \\ $HOME `id` % # : - ',
    "Jinja": b"{{ 7 * 7 }} {% if %} {# #}",
    "UTF-8": "pä\u2028ß \U0001f512 \u202e".encode(),
    "several lines": b"\n-----BEGIN KEY-----\r\nabc\n\n\ndef\n-----END KEY-----",
    "a line break of DOS": b"value\r",
    "100 kB": b"0123456789abcdef" * 6250,
    "what looks like a message": b"-----BEGIN PGP MESSAGE-----\n\nabcd\n=abcd\n-----END PGP MESSAGE-----",
}
