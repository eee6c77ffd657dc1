"""What is said to PostgreSQL: names, values, and what it stores of a password."""

import base64
import hashlib
import hmac
from collections.abc import Iterable

# What PostgreSQL itself takes for a new password; RFC 7677 asks for no less.
ITERATIONS = 4096

# A role that may do more than have what it is given; and one that may not.
POWERS = "(rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)"
NO_POWERS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


def name_of(text: str) -> str:
    """Return an identifier, quoted."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text, quoted."""
    return "'" + text.replace("'", "''") + "'"


def names(texts: Iterable[str]) -> str:
    """Return texts as an array of names, sorted."""
    return f"ARRAY[{', '.join(map(literal, sorted(texts)))}]::name[]"


def scram(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Make the verifier that PostgreSQL stores for a password.

    With it the password itself never reaches the server, nor its log. RFC 5802, section 3; the form is that of
    PostgreSQL's ``pg_authid.rolpassword``.

    :param password: ASCII text.
    :param salt: random bytes.
    :param iterations: of PBKDF2.
    :return: ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def matches(password: str, verifier: str | None) -> bool:
    """Tell whether a verifier is a password's.

    :param password: ASCII text.
    :param verifier: what PostgreSQL stores, or ``None``.
    :return: a boolean.
    """
    try:
        if verifier is None:
            return False
        _, parameters, _ = verifier.split("$")
        iterations, salt = parameters.split(":")
        own = scram(password, base64.b64decode(salt), int(iterations))
        return hmac.compare_digest(verifier.encode(), own.encode())
    except ValueError:
        return False
