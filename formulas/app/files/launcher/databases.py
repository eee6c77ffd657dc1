"""The databases of an app's current release, for psql: what APP-psql connects to."""

import os
import sys
from urllib.parse import parse_qsl, unquote

from .release import environment, past_pools, serving

PSQL = "/usr/bin/psql"
SCHEMES = ("postgres", "postgresql", "postgis")
# The one that is meant where none is named.
USUAL = "DATABASE_URL"
# The parts of an attachment, and libpq's variables of them; its own are called so already.
PARTS = {
    "HOST": "PGHOST",
    "PORT": "PGPORT",
    "USER": "PGUSER",
    "PASSWORD": "PGPASSWORD",
    "DATABASE": "PGDATABASE",
    "SSLMODE": "PGSSLMODE",
    "SSLROOTCERT": "PGSSLROOTCERT",
}
# Options of a URL, and libpq's variables of them.
OPTIONS = {
    "application_name": "PGAPPNAME",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


def databases(variables, attached):
    """Return how libpq connects to each database in the config of a release.

    :param variables: the config, as bytes.
    :param attached: what the release attaches, by variable.
    :return: libpq's variables by the attachment's name, such as ``{'DATABASE_URL': {'PGHOST': '10.0.0.2', …}}``.
    """
    texts = {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()}
    found = {name: where for name, text in texts.items() if (where := of_url(text))}
    for name, target in attached.items():
        if "postgres" in target and target.get("as") == "parts":
            prefix = name if name == "PG" else f"{name}_"
            where = {own: texts[prefix + part] for part, own in PARTS.items() if prefix + part in texts}
            found |= {name: where} if "PGHOST" in where else {}
    return found


def of_url(text):
    """Return libpq's variables of a database's URL, ``None`` where it is no such URL."""
    scheme, separator, rest = text.partition("://")
    # Frameworks name a driver behind a plus sign.
    if not separator or scheme.partition("+")[0] not in SCHEMES:
        return None
    place, _, query = rest.partition("?")
    authority, _, database = place.partition("/")
    login, _, hosts = authority.rpartition("@")
    user, _, password = login.partition(":")
    pairs = [_host(one) for one in hosts.split(",")]
    found = {
        "PGHOST": ",".join(host for host, _ in pairs),
        "PGPORT": ",".join(port for _, port in pairs),
        "PGUSER": unquote(user),
        "PGPASSWORD": unquote(password),
        "PGDATABASE": unquote(database),
    }
    found |= {OPTIONS[key]: value for key, value in parse_qsl(query) if key in OPTIONS}
    return {name: value for name, value in found.items() if value.strip(",")}


def _host(text):
    """Return host and port; an IPv6 address is in brackets."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = text.partition(":")
    return unquote(host), port


def psql(app, number, *words):
    """Become psql at a database of a release, as the app's user and by its own login.

    The password is in psql's environment, which its user and root alone can read: on no command line, in no history.
    """
    directory, release = serving(app, number, "psql")
    variables = environment(directory, release, app, None)
    past_pools(variables, release)
    known = databases(variables, release.get("attached") or {})
    name, rest = chosen(app, list(words), known)
    own = {"HOME": f"/srv/apps/{app}/home", "LANG": "C.UTF-8", "LOGNAME": app, "PATH": os.defpath, "USER": app}
    own |= {"PGAPPNAME": f"{app}-psql"} | known[name]
    own |= {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
    os.chdir(own["HOME"])
    try:
        os.execve(PSQL, ["psql", *rest], own)
    except FileNotFoundError:
        sys.exit(f"{app}-psql: {PSQL} is not there; expected an attachment of a database in the pillar, and a converge")


def chosen(app, words, known):
    """Return the name of the database that is meant, and psql's own arguments."""
    names = ", ".join(sorted(known))
    if not known:
        sys.exit(f"{app}-psql: the current release of {app} has no database of PostgreSQL")
    if words and not words[0].startswith("-"):
        if words[0] not in known:
            sys.exit(f"{app}-psql: {ascii(words[0])[1:-1]}: no database has this name; expected one of {names}")
        return words[0], words[1:]
    if len(known) > 1 and USUAL not in known:
        sys.exit(f"{app}-psql: {app} has several databases; expected one of {names}, before psql's own arguments")
    return USUAL if USUAL in known else next(iter(known)), words
